// SPDX-License-Identifier: Apache-2.0
// The renderer's panel of controls, which it opens over the scene: closed here until the "?" button asks for it.

// To be called before the scene is loaded, when the renderer shows the panel.
export function collapseHelp(button) {
    const panel = document.querySelector('.sse-controlsHint');
    const close = panel.querySelector('.sse-controlsHintClose');
    const toggle = document.querySelector('.sse-controlsButton'); // the renderer's own, which page.css leaves out
    const isOpen = () => !panel.classList.contains('sse-hidden');

    panel.id = 'img3d-help-panel';
    close.setAttribute('aria-label', 'Close');
    close.click();
    // The renderer takes the focus from its buttons after clicks, so that keys move the camera. Those that came from the
    // keyboard (detail 0) leave it where the keyboard goes on.
    close.addEventListener('click', ({ detail }) => {
        if (detail === 0) {
            setTimeout(() => button.focus());
        }
    });
    button.addEventListener('click', ({ detail }) => {
        toggle.click();
        if (detail > 0) {
            button.blur();
        }
    });
    panel.addEventListener('wheel', (event) => event.stopPropagation()); // scrolls it, and does not zoom
    document.addEventListener('keydown', ({ key }) => {
        if (key === 'Escape' && isOpen()) {
            close.click();
        }
    });
    // It is also toggled by a key, and makes way for the settings.
    new MutationObserver(() => button.setAttribute('aria-expanded', isOpen())).observe(panel, {
        attributeFilter: ['class']
    });
    button.hidden = false;
}
