// Images dropped onto the stage, and images pasted anywhere in the widget.

import type { Context } from "../../app/coreExports";
import { existingOf } from "./existing";
import { imageIn } from "./imageFile";

const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;

export function attachDrop(context: Context, signal: AbortSignal, root: HTMLElement): void {
  const existing = existingOf(context);
  const frameOf = ({ target }: Event) => (target as Element).closest<HTMLElement>(".dv-stage, .dv-image");
  const mark = (frame: HTMLElement | null) => {
    for (const element of root.querySelectorAll<HTMLElement>(".dv-stage, .dv-image"))
      element.toggleAttribute("data-drop", element === frame);
  };
  const listen = <K extends keyof HTMLElementEventMap>(name: K, call: (event: HTMLElementEventMap[K]) => void) =>
    root.addEventListener(name, call, { signal });
  listen("dragover", (event) => {
    const frame = frameOf(event);
    if (!hasFiles(event)) return;
    // Elsewhere in the widget a file is not taken, and does not replace the page either.
    event.preventDefault();
    if (event.dataTransfer) event.dataTransfer.dropEffect = frame && !existing.obstacle ? "copy" : "none";
    // Where nothing can be dropped the browser sends no drop: the reason has to be there before.
    if (frame && existing.obstacle) context.problem.value = existing.obstacle;
    mark(existing.obstacle ? null : frame);
  });
  listen("dragleave", (event) => {
    if (!root.contains(event.relatedTarget as Node | null)) mark(null);
  });
  listen("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    mark(null);
    void existing.open(imageIn(event.dataTransfer?.files));
  });
  listen("paste", (event) => {
    const file = imageIn(event.clipboardData?.files);
    if (!file) return;
    event.preventDefault();
    void existing.open(file);
  });
  signal.addEventListener("abort", () => existing.job.cancel());
}
