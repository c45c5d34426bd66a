// SPDX-License-Identifier: Apache-2.0
// Added to viser's page. In a narrow window its panel covers most of the scene: it begins collapsed.

const PANEL = '[style*="max-height: 60%"]';

const observer = new MutationObserver(() => {
    const handle = document.querySelector(PANEL)?.firstElementChild;
    if (!handle) return;
    observer.disconnect();
    handle.click();
});
observer.observe(document.documentElement, { childList: true, subtree: true });
