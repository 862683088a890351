// Files that the page makes itself, and saving files.

import { fitImage, type Message, object, type Run, stepNumber, text } from "../../app/coreExports";

const FILE = object({ name: text, mime: text });

/** The concept scores as a table with the columns of dv.export.csv. */
export function csvOf(run: Run): string {
  const scores = run.scores.value;
  if (!scores) return "";
  const names = scores.concepts.flatMap((concept) => [`${concept} cosine`, `${concept} share`]);
  const rows = [["step", "timestep", "sigma", "null_5", "null_95", ...names]];
  scores.cosine.forEach((row, index) => {
    const step = run.steps[index];
    const values = row?.flatMap((cosine, i) => [cosine, scores.share ? scores.share[index]?.[i] : 1]) ?? [];
    const band = scores.null_band[index] ?? [null, null];
    rows.push(
      [stepNumber(index), step?.timestep, step?.sigma, ...band, ...values].map((cell) => String(cell ?? "nan")),
    );
  });
  return rows.map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");
}

// What a spreadsheet would evaluate, at the start and behind other separators: as in diffvis_widget/export/figures.py.
const FORMULA = /^(?=[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])/;
const LATER_FORMULA = /([;|\t\r\n"])(?=[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20])/g;

function csvCell(cell: string): string {
  const safe = Number.isNaN(Number(cell)) ? cell.replaceAll(LATER_FORMULA, "$1'").replace(FORMULA, "'") : cell;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The stage as it is on the screen, without the margin around the image; null where it cannot be read. */
export function stageOf(root: Element | null | undefined, run: Run): Promise<Blob | null> {
  const stage = root?.querySelector<HTMLCanvasElement>(".dv-stage canvas");
  if (!stage) return Promise.resolve(null);
  const size = { width: stage.width, height: stage.height, ratio: 1 };
  const { x, y, width, height } = fitImage(run.info.image, size);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width);
  canvas.height = Math.round(height);
  canvas.getContext("2d")?.drawImage(stage, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** The file in the kernel's reply. */
export function fileOf({ content, buffers }: Message): { readonly name: string; readonly blob: Blob } {
  const { name, mime } = FILE(content, "file");
  return { name, blob: new Blob(buffers as readonly ArrayBufferView<ArrayBuffer>[] as BlobPart[], { type: mime }) };
}

/** Has the browser save a file. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // Browsers start reading later, and keep what they have read by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function formatBytes(size: number): string {
  return size < 1e6 ? `${Math.max(1, Math.round(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
