// Files dropped or pasted before the drawers are loaded: they wait for the drawer that takes them, and the browser does
// not open them in place of the page.

import type { Context } from "../core/context";

export function holdEarlyFiles({ drawers, session }: Context, root: HTMLElement, signal: AbortSignal): void {
  const hold = async (event: Event) => {
    const { type, isTrusted, target, dataTransfer, clipboardData } = event as DragEvent & ClipboardEvent;
    const data = dataTransfer ?? clipboardData;
    if (!isTrusted || !data?.types.includes("Files") || !drawers.needsLoading("image")) return;
    event.preventDefault();
    if (type === "dragover") return;
    // The browser empties its own data when this turn ends.
    const files = new DataTransfer();
    for (const file of data.files) files.items.add(file);
    await drawers.load(session);
    const Again = event.constructor as new (type: string, options: DragEventInit & ClipboardEventInit) => Event;
    const options = { bubbles: true, cancelable: true, dataTransfer: files, clipboardData: files };
    target?.dispatchEvent(new Again(type, options));
  };
  for (const name of ["dragover", "drop", "paste"]) root.addEventListener(name, hold, { signal });
}
