// Small multiples: one heat map per word at this step, on a scale of its own or on one for all.

import { effect, useComputed } from "@preact/signals";
import { Fragment } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { colourAt, lookup } from "../core/colormap";
import { Resampler, rescale, valueAt } from "../core/field";
import { NOT_KEPT, value } from "../core/format";
import type { Run } from "../core/store";
import { byEncoder, split } from "../core/words";
import { useArrows } from "./arrows";
import { colourOf, fullNameOf, nameOf } from "./Chips";
import { Choice } from "./Choice";
import type { Context } from "./context";
import { CrossIcon } from "./icons";
import { rangeOf } from "./overlay";
import { Place } from "./Place";
import { Probe, pointIn } from "./Probe";
import { wordEvents } from "./wordEvents";

const SCALES = [
  { value: "own", label: "Own scale", title: "Each map from its own least to its own greatest value" },
  { value: "shared", label: "Shared", title: "One scale for all words and all steps" },
] as const;

export function WordMaps({ context }: { readonly context: Context }) {
  const { store, look, traits } = context.session;
  const run = store.shown.value;
  const words = byEncoder(
    run?.info.words ?? [],
    ({ kind }) => kind === "word" || (look.special.value && kind !== "truncated"),
  );
  const region = look.region.value;
  const unread = run !== null && !run.mapped;
  const arrows = useArrows(words.length);
  return (
    <section class="dv-maps" aria-label="Where each word looks">
      <div class="dv-title">
        <h3 title="Attention of each word at this step, 0 to 1. The number is the map's peak, or the value under the pointer.">
          {region ? "What this place reads" : "Where each word looks"}
        </h3>
        {unread ? null : region ? (
          <button
            type="button"
            class="dv-quiet dv-speed"
            aria-label="Let the place go"
            title="Let the place go (Esc)"
            onClick={() => {
              look.region.value = null;
            }}
          >
            <CrossIcon />
          </button>
        ) : (
          <Choice
            label="Scale of the maps"
            options={SCALES}
            chosen={look.shared.value ? "shared" : "own"}
            choose={(scale) => {
              look.shared.value = scale === "shared";
            }}
          />
        )}
      </div>
      {unread ? (
        <p class="dv-soft">The attention of this pipeline cannot be read, so there are no word maps.</p>
      ) : run && region ? (
        <Place context={context} run={run} region={region} />
      ) : (
        <div
          class="dv-tiles"
          role="toolbar"
          aria-label="Heat maps of the words"
          data-arrows
          onFocusIn={arrows.onFocusIn}
          onKeyDown={arrows.onKeyDown}
        >
          {run
            ? words.map(({ index, begins }, position) => (
                <Fragment key={`${run.info.run}-${index}`}>
                  {begins ? <span class="dv-encoder">{begins}</span> : null}
                  <Tile context={context} run={run} index={index} tabIndex={arrows.tabIndex(position)} />
                </Fragment>
              ))
            : split(traits.prompt.value).map((word, i) => (
                <span class="dv-tile" key={i} data-waiting>
                  <span class="dv-map" />
                  <span class="dv-tile-name">{word}</span>
                  <span class="dv-num">–</span>
                </span>
              ))}
        </div>
      )}
    </section>
  );
}

/** Maps finer than this are drawn cell by cell; coarser ones are resampled. */
const RASTER = 64;

/** [h, w] of a tile's canvas: the grid itself, or a multiple of it that is fine enough. */
function rasterOf({ info }: Run): readonly [number, number] {
  const [h, w] = info.grid;
  const times = Math.max(1, Math.ceil(RASTER / Math.max(1, h, w)));
  return [Math.max(1, h * times), Math.max(1, w * times)];
}

interface TileProps {
  readonly context: Context;
  readonly run: Run;
  readonly index: number;
  readonly tabIndex: 0 | -1;
}

function Tile({ context, run, index, tabIndex }: TileProps) {
  const { look } = context.session;
  const canvas = useRef<HTMLCanvasElement>(null);
  const word = run.info.words[index];
  const name = word ? nameOf(word) : "";
  const [height, width] = rasterOf(run);
  useLayoutEffect(() => {
    const c = canvas.current?.getContext("2d");
    if (!c) return;
    const raster = new Resampler(width, height);
    const colours = lookup("viridis");
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    return effect(() => {
      const step = run.nearest(look.step.value);
      const own = step?.maps.scales[index];
      const range = step && rangeOf(run, step, index, look.shared.value);
      if (!step || !own || !range) {
        c.clearRect(0, 0, width, height);
        return;
      }
      const [factor, offset] = rescale(own, range);
      const field = raster.resample(step.maps, index);
      for (let i = 0; i < pixels.length; i++) {
        pixels[i] = colourAt(colours, (field[i] as number) * factor + offset);
      }
      c.putImageData(image, 0, 0);
    });
  }, [run, index, width, height]);

  const reading = useComputed(() => {
    const step = run.nearest(look.step.value);
    const probe = look.probe.value;
    const scale = step?.maps.scales[index];
    if (!step) return "–";
    if (!scale) return NOT_KEPT;
    const found = probe ? valueAt(step.maps, index, probe.u, probe.v) : scale[1];
    return found === null ? "–" : value(found);
  });

  const chosen = look.pinned.value.includes(index);
  const colour = colourOf(look.pinned.value, index);
  return (
    <button
      type="button"
      class="dv-tile"
      data-stop
      data-testid={`map-${index}`}
      data-hovered={look.hovered.value === index || undefined}
      aria-pressed={chosen}
      title={fullNameOf(word)}
      tabIndex={tabIndex}
      style={colour ? { "--mark": colour } : undefined}
      {...wordEvents(look, index)}
      onPointerLeave={() => {
        look.hovered.value = null;
        look.probe.value = null;
      }}
      onPointerMove={(event) => {
        look.probe.value = canvas.current && pointIn(canvas.current.getBoundingClientRect(), event, run.info.image);
      }}
    >
      <span class="dv-map" aria-hidden="true">
        <canvas ref={canvas} width={width} height={height} />
        <Probe look={look} image={run.info.image} />
      </span>
      <span class="dv-tile-name">{name}</span>
      <span class="dv-num">{reading}</span>
    </button>
  );
}
