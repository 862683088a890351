// Contour lines of a field at quantiles: around its highest half, quarter and tenth.

/** The shares of cells inside the lines, outermost first. */
export const INSIDE = [0.5, 0.25, 0.1];

/** The values above which these shares of `field` lie; none for a flat field. */
export function levels(field: Float32Array, inside: readonly number[] = INSIDE): number[] {
  const sorted = field.toSorted();
  const last = sorted.length - 1;
  if (!((sorted[last] as number) > (sorted[0] as number))) return [];
  return inside.map((share) => sorted[Math.round((1 - share) * last)] as number);
}

/** Adds the contour of `field` (rows of `width`) at `level` to a path, in units of cells: marching squares. */
export function trace(
  path: Pick<Path2D, "moveTo" | "lineTo">,
  field: Float32Array,
  width: number,
  level: number,
): void {
  const height = field.length / width;
  for (let y = 0; y < height - 1; y++) {
    for (let x = 0; x < width - 1; x++) {
      const at = y * width + x;
      // The corners clockwise, and where the line crosses the edges between them.
      const corners = [field[at], field[at + 1], field[at + width + 1], field[at + width]] as number[];
      let pen = false;
      for (let edge = 0; edge < 4; edge++) {
        const a = corners[edge] as number;
        const b = corners[(edge + 1) % 4] as number;
        if (a > level === b > level) continue;
        const t = (level - a) / (b - a);
        const px = x + 0.5 + (edge === 0 ? t : edge === 1 ? 1 : edge === 2 ? 1 - t : 0);
        const py = y + 0.5 + (edge === 0 ? 0 : edge === 1 ? t : edge === 2 ? 1 : 1 - t);
        if (pen) path.lineTo(px, py);
        else path.moveTo(px, py);
        pen = !pen;
      }
    }
  }
}
