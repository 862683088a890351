// How many columns of tiles: those with the largest tiles that all fit.

import type { RefObject } from "preact";
import { useLayoutEffect } from "preact/hooks";

const GAP = { column: 8, row: 6 };
/** The two lines under a map, and a heading, with their margins. */
const LINES = 34;
const HEADING = 26;
const EDGE = { smallest: 60, largest: 120 };
/** The height that is aimed at where nothing limits it. */
const FREE_HEIGHT = 230;

/**
 * The number of columns in a box for groups of so many tiles, whose maps have this ratio of width to height; if even small
 * tiles do not fit, the box scrolls.
 */
export function tileColumns(
  groups: readonly number[],
  headings: number,
  ratio: number,
  width: number,
  height: number,
): number {
  const columnsOf = (edge: number) => Math.max(1, Math.floor((width + GAP.column) / (edge + GAP.column)));
  const most = columnsOf(EDGE.smallest);
  // Tiles that cannot grow any more leave no room at their side.
  for (let columns = Math.min(columnsOf(EDGE.largest), Math.max(1, ...groups)); columns < most; columns++) {
    const edge = Math.min(EDGE.largest, (width - (columns - 1) * GAP.column) / columns);
    const rows = groups.reduce((sum, tiles) => sum + Math.ceil(tiles / columns), 0);
    if (rows * (edge / ratio + LINES + GAP.row) - GAP.row + headings * HEADING <= height) return columns;
  }
  return most;
}

/**
 * Whether tiles stand in one row that scrolls: where they would be two rows, of which the second is cut. The edge of a tile
 * in this row, so that half a tile at its end shows that there are more; null elsewhere.
 */
export function rowEdge(tiles: number, columns: number, ratio: number, width: number, height: number): number | null {
  const edge = Math.min(EDGE.largest, (width - (columns - 1) * GAP.column) / columns);
  if (tiles <= columns || tiles > 2 * columns || height >= 2 * (edge / ratio + LINES) + GAP.row) return null;
  const whole = Math.max(1, columns - 1);
  return (width - whole * GAP.column) / (whole + 0.5);
}

/** Gives the tiles in a section below its title their columns, for the section's size in the layout, before it is painted. */
export function useTileColumns(
  section: RefObject<HTMLElement | null>,
  groups: readonly number[],
  headings: number,
  ratio: number,
): void {
  const shape = `${groups} ${headings} ${ratio}`;
  useLayoutEffect(() => {
    const element = section.current;
    if (!element) return;
    const measure = () => {
      const { clientWidth: width, clientHeight } = element;
      // Only where the tiles do not determine the section's height, it limits them.
      const isLimited = getComputedStyle(element).contain.includes("size");
      const title = element.firstElementChild?.clientHeight ?? 0;
      const height = isLimited ? clientHeight - title - GAP.row : FREE_HEIGHT;
      if (width <= 0) return;
      const columns = tileColumns(groups, headings, ratio, width, height);
      element.style.setProperty("--columns", `repeat(${columns},minmax(0,${EDGE.largest}px))`);
      const edge = isLimited && headings === 0 ? rowEdge(groups[0] ?? 0, columns, ratio, width, height) : null;
      element.style.setProperty("--row-edge", `${edge}px`);
      element.toggleAttribute("data-row", edge !== null);
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [section, shape]);
}
