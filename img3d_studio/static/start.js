// SPDX-License-Identifier: Apache-2.0
// The first view: drop files or type a text, then choose what to make.

import * as api from "./api.js";
import { action, element, say } from "./elements.js";

const AT_ONCE = 3;

export function startView(view) {
    let run = null; // its name, once there is a file or a text
    let sent = [];
    let stale = 0;

    const picker = element("input", { type: "file", multiple: true, id: "files", class: "hidden" });
    const zone = element(
        "label",
        { class: "zone", for: "files" },
        element("strong", {}, "Drop photos here"),
        element("span", {}, "or a video, one image, a file of splats or a mesh"),
        element("span", { class: "button", "aria-hidden": "true" }, "Choose files"),
    );
    picker.setAttribute("aria-label", "Choose photos, a video, an image, a file of splats or a mesh");
    const text = element("input", { type: "text", id: "text", maxLength: 1000, placeholder: "a wooden chair" });
    const textForm = element(
        "form",
        { class: "text", onsubmit: action(describe) },
        element("label", { for: "text" }, "Or describe an object"),
        element("div", { class: "row" }, text, element("button", { type: "submit" }, "Continue")),
    );
    const progress = element("progress", { max: 1, value: 0, "aria-label": "Sending files" });
    const status = element("p", { role: "status", class: "status" });
    const names = element("ul", { class: "names", "aria-label": "Files" });
    const choices = element("section", { "aria-label": "What to make", class: "choices" });
    progress.hidden = true;

    view.append(
        element("h1", {}, "Make 3D of your pictures"),
        element("div", { class: "drop" }, picker, zone),
        progress,
        status,
        names,
        choices,
        textForm,
    );

    for (const kind of ["dragenter", "dragover"]) {
        zone.addEventListener(kind, (event) => {
            event.preventDefault();
            zone.classList.add("over");
        });
    }
    for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
        event.preventDefault();
        filesOf(event.dataTransfer).then(add);
    });
    picker.addEventListener("change", () => {
        add([...picker.files]);
        picker.value = "";
    });

    async function draft() {
        run ??= (await api.post("runs")).id;
        return run;
    }

    async function add(files) {
        if (!files.length) return;
        say(null);
        const problems = [];
        const total = files.reduce((sum, file) => sum + file.size, 0) || 1;
        let before = 0;
        progress.hidden = false;
        try {
            const name = await draft();
            for (const [index, file] of files.entries()) {
                status.textContent = `Sending ${index + 1} of ${files.length}: ${file.name}`;
                try {
                    await api.upload(`runs/${name}/input/${encodeURIComponent(file.name)}`, file, (bytes) => {
                        progress.value = (before + bytes) / total;
                    });
                    if (!sent.includes(file.name)) sent.push(file.name);
                } catch (problem) {
                    problems.push(problem.message);
                }
                before += file.size;
                progress.value = before / total;
            }
        } catch (problem) {
            problems.push(problem.message);
        }
        progress.hidden = true;
        status.textContent = "";
        showNames();
        if (sent.length) await offer("");
        if (problems.length) say(problems.slice(0, 3).join("\n"));
    }

    function showNames() {
        const shown = sent.slice(0, 6).map((name) =>
            element(
                "li",
                {},
                element("span", {}, name),
                element("button", { class: "quiet", "aria-label": `Remove ${name}`, onclick: action(() => drop(name)) }, "×"),
            ),
        );
        if (sent.length > 6) shown.push(element("li", {}, `and ${sent.length - 6} more`));
        names.replaceChildren(...shown);
    }

    async function drop(name) {
        await api.remove(`runs/${run}/input/${encodeURIComponent(name)}`);
        sent = sent.filter((other) => other !== name);
        showNames();
        if (sent.length) await offer("");
        else choices.replaceChildren();
    }

    async function describe(event) {
        event.preventDefault();
        if (sent.length) throw new Error("Remove the files first, or choose what to make of them.");
        if (!text.value.trim()) throw new Error("Type what the object is.");
        await draft();
        await offer(text.value);
    }

    async function offer(described) {
        const mine = ++stale;
        let found;
        try {
            found = await api.post(`runs/${run}/choices`, { text: described });
        } catch (problem) {
            choices.replaceChildren();
            throw problem;
        }
        if (mine !== stale) return;
        const first = found.choices.filter((choice) => choice.first).slice(0, AT_ONCE);
        const more = found.choices.filter((choice) => !first.includes(choice));
        choices.replaceChildren(
            element("h2", {}, `What should become of ${found.input}?`),
            element("div", { class: "cards" }, first.map((choice) => card(choice, described))),
            more.length
                ? element(
                      "details",
                      {},
                      element("summary", {}, "More"),
                      element("div", { class: "cards" }, more.map((choice) => card(choice, described))),
                  )
                : null,
        );
        choices.scrollIntoView({ block: "nearest" });
    }

    function card(choice, described) {
        return element(
            "button",
            { class: "card", onclick: action(() => begin(choice.name, described)) },
            element("strong", {}, choice.title),
            element("span", {}, choice.sentence),
            element("small", {}, choice.time),
        );
    }

    async function begin(choice, described) {
        await api.post(`runs/${run}/start`, { choice, text: described });
        location.hash = `#/runs/${run}`;
    }

    return () => {};
}

/** The files that were dropped, those inside folders too. */
async function filesOf(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return [...transfer.files];
    return (await Promise.all(entries.map(filesBelow))).flat();
}

async function filesBelow(entry) {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) return found.flat();
        found.push(...(await Promise.all(some.filter(({ name }) => !name.startsWith(".")).map(filesBelow))));
    }
}
