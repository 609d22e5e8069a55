/** As much of Node's Buffer as zstddec asks: the bytes that text in base64 stands for. */
export const Buffer = {
  from: (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)),
};
