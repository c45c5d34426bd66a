// SPDX-License-Identifier: Apache-2.0
// Requests to the studio. Each throws an Error whose message is for the user.

async function answered(response) {
    const text = await response.text();
    let content = {};
    try {
        content = JSON.parse(text);
    } catch {
        content = { error: text };
    }
    if (!response.ok) throw new Error(content.error || `The studio answered ${response.status}.`);
    return content;
}

async function request(method, path, body) {
    let response;
    try {
        response = await fetch(`/api/${path}`, { method, body: body && JSON.stringify(body) });
    } catch {
        throw new Error("The studio does not answer. Is img3d-studio still running?");
    }
    return answered(response);
}

export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);
export const remove = (path) => request("DELETE", path);

/** Uploads a file; `onProgress` is called with the number of bytes sent. (fetch does not tell.) */
export function upload(path, file, onProgress) {
    return new Promise((resolve, reject) => {
        const sending = new XMLHttpRequest();
        sending.open("PUT", `/api/${path}`);
        sending.upload.onprogress = (event) => onProgress(event.loaded);
        sending.onerror = () => reject(new Error(`${file.name} could not be sent.`));
        sending.onload = () => {
            answered(new Response(sending.responseText, { status: sending.status })).then(resolve, reject);
        };
        sending.send(file);
    });
}
