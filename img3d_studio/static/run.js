// SPDX-License-Identifier: Apache-2.0
// A run: its progress, then its scene, what can be done with it, and its files.

import * as api from "./api.js";
import { action, element, minutes, say } from "./elements.js";

const BUSY_MS = 1000;
const IDLE_MS = 5000;
const NO_EDIT = { open: false, clean: false, cut: {} };
const SIDES = [
    ["x", "Left", "Right"],
    ["y", "Bottom", "Top"],
    ["z", "Back", "Front"],
];

export function runView(view, id) {
    let closed = false;
    let timer = 0;
    let shown = {}; // what each part shows, to leave alone what has not changed
    let wanted = NO_EDIT; // what the tools are set to, which outlasts their replacement
    const parts = {
        title: element("h1", {}),
        status: element("div", { class: "progress", role: "status" }),
        scene: element("div", { class: "scene" }),
        tools: element("section", { "aria-label": "Edit", class: "tools" }),
        files: element("section", { "aria-label": "Downloads", class: "files" }),
        foot: element("div", { class: "foot" }),
    };
    view.append(...Object.values(parts));

    async function refresh() {
        clearTimeout(timer);
        let busy = false;
        try {
            const run = await api.get(`runs/${id}`);
            if (closed) return;
            show(run);
            busy = run.running !== null || run.state === "queued" || run.waitsFor !== "";
        } catch (problem) {
            if (closed) return;
            say(problem);
        }
        timer = setTimeout(refresh, busy ? BUSY_MS : IDLE_MS);
    }

    const act = (path, body) =>
        action(async () => {
            await api.post(`runs/${id}/${path}`, body?.());
            await refresh();
        });

    /** Replaces a part's content if what it depends on has changed. */
    function update(part, depends, content) {
        const key = JSON.stringify(depends);
        if (shown[part] === key) return;
        shown[part] = key;
        parts[part].replaceChildren(...content().filter(Boolean));
    }

    function show(run) {
        document.title = `${run.title || "Run"} – img3d studio`;
        update("title", [run.title, run.made], () => [run.title, " ", element("small", {}, run.made)]);
        update("status", [run.state, run.running, run.waitsFor, run.message], () => status(run));
        const live = run.running?.live && run.running.kind === "make";
        const version = [run.hasPage && run.state === "done", live, run.hasPicture, run.edit?.state === "done" ? run.edit.id : 0];
        update("scene", version, () => scene(run, live));
        update("tools", [run.canEdit, run.edited, run.edit?.state], () => (run.canEdit ? tools(run) : []));
        update("files", run.files, () => files(run));
        update("foot", [run.state, run.inputs.length], () => foot(run));
    }

    function status(run) {
        const working = run.running;
        if (working) {
            const bar = element("progress", { max: 1, "aria-label": working.doing });
            if (working.fraction !== null) bar.value = working.fraction;
            const doing = working.kind === "make" ? working.doing : working.title;
            return [
                element("p", {}, element("strong", {}, doing), working.details ? ` – ${working.details}` : ""),
                bar,
                working.placed ? element("p", { class: "quiet" }, working.placed) : null,
                element("button", { onclick: act("cancel") }, "Cancel"),
            ];
        }
        if (run.state === "queued") {
            const why = run.waitsFor ? `Waits until “${run.waitsFor}” has ended.` : "Waits for its turn.";
            return [element("p", {}, why), element("button", { onclick: act("cancel") }, "Cancel")];
        }
        if (run.state === "failed") {
            return [
                element("p", { class: "failed" }, element("strong", {}, "It did not work. "), run.message),
                element("button", { onclick: act("resume") }, "Try again"),
            ];
        }
        if (run.state === "cancelled") {
            return [element("p", {}, "Cancelled."), element("button", { onclick: act("resume") }, "Go on")];
        }
        if (run.waitsFor) return [element("p", {}, `Waits until “${run.waitsFor}” has ended.`)];
        return [element("p", { class: "quiet" }, `Made in ${minutes(run.seconds)}.`)];
    }

    function scene(run, live) {
        if (run.hasPage && run.state === "done") {
            const address = `/runs/${id}/page/index.html?edit=${run.edit?.id ?? 0}`;
            return [
                element("iframe", { src: address, title: `The scene ${run.title}`, allow: "fullscreen" }),
                element("p", { class: "quiet" }, "Drag to turn, pinch or use the wheel to come closer; ? in the picture lists all keys. "),
                element("a", { href: address, target: "_blank", rel: "noopener" }, "Open it alone"),
            ];
        }
        if (live) {
            return [
                element("iframe", { src: `/runs/${id}/live/`, title: "The scene while it is made" }),
                element("p", { class: "quiet" }, "The scene as it is now: turn it, and see it sharpen."),
            ];
        }
        return run.hasPicture ? [element("img", { src: `/runs/${id}/picture.jpg`, alt: "The first picture of this run" })] : [];
    }

    function tools(run) {
        const busy = ["queued", "running"].includes(run.edit?.state);
        const clean = element("input", { type: "checkbox", id: "clean", checked: wanted.clean });
        clean.addEventListener("change", () => (wanted = { ...wanted, clean: clean.checked }));
        const keep = SIDES.map(([axis, low, high]) => {
            const slider = (end) => {
                const id = `${axis}-${end}`;
                return element("input", { type: "range", min: "0", max: "100", value: wanted.cut[id] ?? "0", id });
            };
            const row = (side, input) => {
                const shown = element("output", { "aria-hidden": "true" }, input.value);
                input.addEventListener("input", () => {
                    shown.textContent = input.value;
                    wanted = { ...wanted, cut: { ...wanted.cut, [input.id]: input.value } };
                });
                return element("label", { for: input.id }, `${side} %`, input, shown);
            };
            const from = slider("from");
            const to = slider("to");
            const rows = [row(low, from), row(high, to)];
            return { from, to, rows };
        });
        const edit = () => ({
            clean: clean.checked,
            keep: keep.map(({ from, to }) => [from.value / 100, 1 - to.value / 100]),
        });
        const undo = act("edit", () => {
            wanted = { ...NO_EDIT, open: wanted.open };
            return { clean: false, keep: SIDES.map(() => [0, 1]) };
        });
        return [
            element(
                "details",
                { open: wanted.open, ontoggle: (event) => (wanted = { ...wanted, open: event.target.open }) },
                element("summary", {}, "Clean and cut"),
                element("label", { class: "check" }, clean, "Remove floaters, fog and needles"),
                element(
                    "fieldset",
                    {},
                    element("legend", {}, "Cut away, from each side"),
                    keep.flatMap(({ rows }) => rows),
                ),
                element("button", { disabled: busy, onclick: act("edit", edit) }, busy ? "Working…" : "Apply"),
                run.edited ? element("button", { disabled: busy, onclick: undo }, "Undo all") : null,
                run.edit?.state === "failed" ? element("p", { class: "failed" }, run.edit.message) : null,
            ),
        ];
    }

    function files(run) {
        if (!run.files.length) return [];
        return [
            element("h2", {}, "Download"),
            element("ul", {}, run.files.map((file) => element("li", {}, fileButton(file)))),
        ];
    }

    function fileButton(file) {
        if (file.megabytes !== null) {
            const size = `${file.megabytes.toFixed(1)} MB`;
            return element(
                "a",
                { class: "button", href: `/runs/${id}/files/${file.name}`, download: "", "aria-label": `Download ${file.title}, ${size}` },
                `${file.title} `,
                element("small", {}, size),
            );
        }
        if (["queued", "running"].includes(file.state)) {
            return element("button", { disabled: true }, `${file.title} `, element("small", {}, "is being made…"));
        }
        const make = element("button", { onclick: act(`files/${file.name}`), "aria-label": `Make ${file.title}` }, `${file.title} `, element("small", {}, "make"));
        return file.state === "failed" ? element("div", {}, make, element("p", { class: "failed" }, file.message)) : make;
    }

    function foot(run) {
        const forget = action(async () => {
            if (!confirm(`Delete “${run.title}”, its ${run.inputs.length || "no"} uploaded files and all that was made of them?`)) return;
            await api.remove(`runs/${id}`);
            location.hash = "#/runs";
        });
        return [
            element("a", { href: `/runs/${id}/log.txt`, target: "_blank", rel: "noopener" }, "Log"),
            element("button", { class: "quiet", onclick: forget }, "Delete this run"),
        ];
    }

    refresh();
    return () => {
        closed = true;
        clearTimeout(timer);
    };
}
