// SPDX-License-Identifier: Apache-2.0
// Builds elements; text is always text, never HTML.

/** An element: `element("a", { href: "#/" }, "Home")`. Properties beginning with "on" are event handlers. */
export function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
        if (value === undefined || value === null || value === false) continue;
        if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
        else if (key in made && typeof value !== "string") made[key] = value;
        else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return made;
}

/** Shows a problem until the next action, or nothing. */
export function say(problem) {
    const place = document.getElementById("problem");
    place.textContent = problem ? problem.message || problem : "";
    place.hidden = !problem;
}

/** An event handler that shows what goes wrong, and lets a button be pressed once at a time. */
export function action(handler) {
    return async (event) => {
        const button = event.currentTarget instanceof HTMLButtonElement ? event.currentTarget : null;
        say(null);
        if (button) button.disabled = true;
        try {
            await handler(event);
        } catch (problem) {
            say(problem);
        } finally {
            if (button) button.disabled = false;
        }
    };
}

export function minutes(seconds) {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    const rounded = Math.round(seconds / 60);
    return rounded < 60 ? `${rounded} min` : `${Math.floor(rounded / 60)} h ${rounded % 60} min`;
}
