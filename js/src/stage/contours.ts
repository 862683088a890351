// Contour lines of a field, by marching squares.

/** Adds the contour of `field` (rows of `width`) at `level` to a path, in units of cells. */
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
      const isAbove = (field[at] as number) > level;
      if (
        (field[at + 1] as number) > level === isAbove &&
        (field[at + width] as number) > level === isAbove &&
        (field[at + width + 1] as number) > level === isAbove
      ) {
        continue; // as nearly everywhere
      }
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
