// SPDX-License-Identifier: Apache-2.0
// Shows the view that the address names: #/ (new), #/runs (earlier runs), #/runs/ID.

import * as api from "./api.js";
import { element, say } from "./elements.js";
import { runView } from "./run.js";
import { startView } from "./start.js";

const STATES = { queued: "waits", running: "being made", done: "ready", failed: "did not work", cancelled: "cancelled" };
const REFRESH_MS = 3000;
let leave = () => {};

function runsView(view) {
    let timer = 0;
    let before = "";
    const list = element("ul", { class: "runs" });
    view.append(element("h1", {}, "Earlier runs"), list);

    async function refresh() {
        try {
            const { runs } = await api.get("runs");
            const now = JSON.stringify(runs);
            if (now !== before) list.replaceChildren(...(runs.length ? runs.map(item) : [element("li", {}, "None yet.")]));
            before = now;
        } catch (problem) {
            say(problem);
        }
        timer = setTimeout(refresh, REFRESH_MS);
    }

    function item(run) {
        const picture = element("img", { src: `/runs/${run.id}/picture.jpg`, alt: "", loading: "lazy" });
        picture.addEventListener("error", () => picture.classList.add("none"));
        return element(
            "li",
            {},
            element(
                "a",
                { href: `#/runs/${run.id}`, class: "card" },
                picture,
                element("strong", {}, run.title),
                element("span", {}, run.made),
                element("small", {}, `${STATES[run.state] ?? run.state}, ${new Date(1000 * run.created).toLocaleString()}`),
            ),
        );
    }

    refresh();
    return () => clearTimeout(timer);
}

function show() {
    leave();
    say(null);
    document.title = "img3d studio";
    const view = document.getElementById("view");
    view.replaceChildren();
    const [, runs, id] = location.hash.split("/");
    leave = runs !== "runs" ? startView(view) : id ? runView(view, id) : runsView(view);
    for (const link of document.querySelectorAll("nav a")) {
        const here = (runs === "runs") === (link.hash === "#/runs");
        if (here) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
    }
    view.focus({ preventScroll: true });
}

// A file that misses the zone would otherwise replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
window.addEventListener("hashchange", show);
show();
