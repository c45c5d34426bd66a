// SPDX-License-Identifier: Apache-2.0
// Bundles page.js with the renderer into ../viewer_assets: one script, one stylesheet, and the licences they ship under.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const assets = new URL('../viewer_assets/', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

// A classic script, not a module: browsers refuse to load modules from file://.
const { outputFiles } = await build({
    entryPoints: [new URL('page.js', import.meta.url).pathname],
    outfile: new URL('viewer.js', assets).pathname,
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2022',
    external: ['node:worker_threads'], // the engine's workers ask for it only outside browsers
    charset: 'utf8',
    legalComments: 'none', // LICENSES.txt has them whole
    logLevel: 'warning',
    write: false
});

const licences = Object.entries(manifest.dependencies).map(([name, version]) => {
    const text = readFileSync(new URL(`node_modules/${name}/LICENSE`, import.meta.url), 'utf8');
    return `${name} ${version}\n\n${text.trim()}\n`;
});

mkdirSync(assets, { recursive: true });
const write = (name, contents) => {
    const partial = new URL(`.${name}.partial`, assets);
    writeFileSync(partial, contents);
    renameSync(partial, new URL(name, assets));
};
write('LICENSES.txt', licences.join('\n' + '-'.repeat(80) + '\n\n'));
for (const extension of ['.css', '.js']) {
    write(`viewer${extension}`, outputFiles.find((file) => file.path.endsWith(extension)).contents);
}
