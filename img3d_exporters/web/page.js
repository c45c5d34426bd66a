// SPDX-License-Identifier: Apache-2.0
// The page: PlayCanvas's SuperSplat viewer, fed with splats that the page itself carries.
//
// Nothing is fetched, since browsers refuse fetch() on file://. `img3dScene` says what is to come; each script after
// this one calls `img3d.part(i, base64)` with a compressed PLY, gzipped. The parts are disjoint: part 0 holds the splats that
// matter most and is shown as soon as it is there, the others join it. `img3d.mesh(base64)`, if the scene has a mesh,
// brings a GLB, which a button shows in place of the splats.
import { createViewer } from '@playcanvas/supersplat-viewer/viewer';
import '@playcanvas/supersplat-viewer/viewer.css';
import { Asset, Entity } from 'playcanvas';
import { collapseHelp } from './help.js';
import './page.css';

const scene = window.img3dScene;
const progress = document.getElementById('img3d-progress');
const message = document.getElementById('img3d-message');
const help = document.getElementById('img3d-help');
const toggle = document.getElementById('img3d-toggle');

const arrivals = scene.parts.map(() => Promise.withResolvers?.() ?? withResolvers());
const meshArrival = Promise.withResolvers?.() ?? withResolvers();
let shown = 0;
let arrived = 0;

function withResolvers() {
    let resolve;
    const promise = new Promise((done) => {
        resolve = done;
    });
    return { promise, resolve };
}

function decode(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) {
        bytes[i] = text.charCodeAt(i);
    }
    return bytes;
}

function arrive(arrival, base64) {
    const bytes = decode(base64);
    arrived += bytes.length;
    report();
    arrival.resolve(bytes);
}

function fail(reason) {
    message.hidden = false;
    message.textContent = `This scene cannot be shown: ${reason}`;
}

// Half of the bar is for arriving, half for being shown.
function report() {
    const total = scene.parts.reduce((sum, part) => sum + part.bytes, scene.meshBytes);
    progress.style.setProperty('--done', (arrived + shown) / (2 * total));
    progress.hidden = shown >= total;
}

function response(gzipped) {
    return new Response(new Blob([gzipped]).stream().pipeThrough(new DecompressionStream('gzip')));
}

function show(app, i, bytes) {
    const name = `part${i}.compressed.ply`;
    const asset = new Asset(name, 'gsplat', { url: name, filename: name, contents: Promise.resolve(response(bytes)) });
    return new Promise((resolve, reject) => {
        asset.on('load', () => {
            const entity = new Entity(`gsplat ${i}`, app);
            entity.setLocalEulerAngles(...scene.rotation);
            entity.addComponent('gsplat', { unified: true, asset }); // unified: sorted together with the other parts
            app.root.addChild(entity);
            app.renderNextFrame = true;
            resolve();
        });
        asset.on('error', reject);
        app.assets.add(asset);
        app.assets.load(asset);
    });
}

// The button swaps what is seen; both stay in the scene.
async function showMesh(app, bytes) {
    const asset = new Asset('mesh.glb', 'container', { url: 'mesh.glb', filename: 'mesh.glb', contents: bytes.buffer });
    await new Promise((resolve, reject) => {
        asset.on('load', resolve);
        asset.on('error', reject);
        app.assets.add(asset);
        app.assets.load(asset);
    });
    const mesh = asset.resource.instantiateRenderEntity();
    mesh.name = 'mesh';
    mesh.enabled = false;
    app.root.addChild(mesh);
    app.scene.ambientLight.set(0, 0, 0); // it would be added to the mesh's colours, which have the photos' light in them
    toggle.hidden = false;
    toggle.addEventListener('click', () => {
        mesh.enabled = !mesh.enabled;
        for (const { entity } of app.root.findComponents('gsplat')) {
            entity.enabled = !mesh.enabled;
        }
        toggle.textContent = mesh.enabled ? 'Show splats' : 'Show mesh';
        app.renderNextFrame = true; // the viewer draws only when something changed
    });
}

async function start() {
    const first = Promise.withResolvers?.() ?? withResolvers();
    const viewer = await createViewer({
        container: document.body,
        contentUrl: 'part0.compressed.ply',
        contents: first.promise,
        settings: scene.settings,
        noanim: true,
        renderer: 'webgl' // what the tests draw with; everywhere, unlike WebGPU, and on file:// too
    });
    img3d.viewer = viewer;
    collapseHelp(help);
    // Into the renderer's element: it alone fills the screen, and fingers that touch it get help on gestures.
    document.querySelector('.sse-viewer').append(help, toggle);
    viewer.app.scene.gsplat.antiAlias = scene.antialiased;
    // The viewer turns what it loads by half a turn about z, from 3DGS's axes (y down); ours are the run's.
    viewer.app.root.on('childinsert', (node) => {
        if (node.name === 'gsplat') {
            node.setLocalEulerAngles(...scene.rotation);
        }
    });
    const loaded = new Promise((resolve) => {
        viewer.events.once('loaded:changed', resolve);
    });
    first.resolve(response(await arrivals[0].promise));
    await loaded;
    message.hidden = true;
    viewer.state.cameraMode = 'orbit'; // it would start in its animation, or flying where the camera is within the scene
    for (let i = 0; i < scene.parts.length; i++) {
        if (i > 0) {
            await show(viewer.app, i, await arrivals[i].promise);
        }
        shown += scene.parts[i].bytes;
        report();
    }
    if (scene.meshBytes > 0) {
        await showMesh(viewer.app, await meshArrival.promise);
        shown += scene.meshBytes;
        report();
    }
    img3d.complete = true;
}

const img3d = {
    viewer: null, // the handle of @playcanvas/supersplat-viewer, for scripting the page
    complete: false, // whether everything is in the scene
    part(i, base64) {
        arrive(arrivals[i], base64);
    },
    mesh(base64) {
        arrive(meshArrival, base64);
    }
};
window.img3d = img3d;

// Errors of elements do not bubble; a script that is missing would otherwise leave the page waiting for its part.
window.addEventListener(
    'error',
    ({ target }) => {
        if (target instanceof HTMLScriptElement) {
            fail(`${target.getAttribute('src')} is missing. It belongs beside this page.`);
        }
    },
    true
);

if (document.createElement('canvas').getContext('webgl2')) {
    start().catch((error) => fail(error.message ?? error));
} else {
    fail('this browser offers no WebGL 2 (it may be switched off in its settings).');
}
