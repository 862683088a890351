// A small heat map, drawn again when a signal that `draw` reads changes.

import { useRef } from "preact/hooks";
import { colourAt, lookup } from "../core/colormap";
import { Resampler, rescale } from "../core/mapSampling";
import type { Maps, Range } from "../core/protocol";
import { paintSoon } from "./paintQueue";
import { useReaction } from "./useCanvas";

/** Coarser maps are resampled to at least this many pixels; finer ones are drawn cell by cell. */
const RASTER = 64;

interface Drawn {
  readonly maps: Maps;
  readonly index: number;
  /** The values that the colours span. */
  readonly range: Range;
}

interface Props {
  readonly grid: readonly [h: number, w: number];
  readonly draw: () => Drawn | null;
  /** What `draw` depends on besides signals. */
  readonly inputs: readonly unknown[];
}

export function MapCanvas({ grid: [h, w], draw, inputs }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const times = Math.max(1, Math.ceil(RASTER / Math.max(1, h, w)));
  const [height, width] = [Math.max(1, h * times), Math.max(1, w * times)];
  const tools = useRef<{ raster: Resampler; image: ImageData } | null>(null);
  const paint = (c: CanvasRenderingContext2D, drawn: Drawn | null) => {
    const scale = drawn?.maps.scales[drawn.index];
    if (!drawn || !scale) {
      c.clearRect(0, 0, width, height);
      return;
    }
    if (tools.current?.image.width !== width || tools.current.image.height !== height)
      tools.current = { raster: new Resampler(width, height), image: new ImageData(width, height) };
    const { raster, image } = tools.current;
    const colours = lookup("viridis");
    const pixels = new Uint32Array(image.data.buffer);
    const [factor, offset] = rescale(scale, drawn.range);
    const field = raster.resample(drawn.maps, drawn.index);
    for (let i = 0; i < pixels.length; i++) pixels[i] = colourAt(colours, (field[i] as number) * factor + offset);
    c.putImageData(image, 0, 0);
  };
  useReaction(() => {
    const element = canvas.current;
    const c = element?.getContext("2d");
    const drawn = draw();
    if (element && c) paintSoon(element, () => paint(c, drawn));
  }, [...inputs, width, height]);
  return <canvas ref={canvas} width={width} height={height} />;
}
