// Small multiples: one heat map per word at this step, on a scale of its own or on one for all.

import { useComputed } from "@preact/signals";
import { Fragment } from "preact";
import { useRef } from "preact/hooks";
import { byEncoder, split } from "../core/alignWords";
import type { Context } from "../core/context";
import { NOT_KEPT, value } from "../core/format";
import { valueAt } from "../core/mapSampling";
import type { Run } from "../core/store";
import { colourOf, fullNameOf, nameOf } from "../core/wordLabels";
import { wordEvents } from "../gestures/chooseWord";
import { rangeOf } from "../stage/overlay";
import { Probe, pointIn } from "../stage/Probe";
import { Place } from "../stage/RegionWords";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { CrossIcon } from "../ui/icons";
import { MapCanvas } from "../ui/MapCanvas";
import { useArrows } from "../ui/rovingFocus";

const SCALES = [
  { value: "own", label: "Own scale", title: "Each map from its least to its greatest value" },
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
        <h3 title="Attention of each word, 0 to 1. The number is the map's peak, or the value under the pointer.">
          {region ? "What this place reads" : "Where each word looks"}
        </h3>
        {unread ? null : region ? (
          <Button
            class="dv-quiet dv-speed"
            aria-label="Let the place go"
            title="Let the place go (Esc)"
            onClick={() => {
              look.region.value = null;
            }}
          >
            <CrossIcon />
          </Button>
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

interface TileProps {
  readonly context: Context;
  readonly run: Run;
  readonly index: number;
  readonly tabIndex: 0 | -1;
}

function Tile({ context, run, index, tabIndex }: TileProps) {
  const { look } = context.session;
  const frame = useRef<HTMLSpanElement>(null);
  const word = run.info.words[index];
  const name = word ? nameOf(word) : "";
  const draw = () => {
    const step = run.nearest(look.step.value);
    const range = step && rangeOf(run, step, index, look.shared.value);
    return step && range ? { maps: step.maps, index, range } : null;
  };

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
    <Button
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
        look.probe.value = frame.current && pointIn(frame.current.getBoundingClientRect(), event, run.info.image);
      }}
    >
      <span class="dv-map" aria-hidden="true" ref={frame}>
        <MapCanvas grid={run.info.grid} draw={draw} inputs={[run, index]} />
        <Probe look={look} image={run.info.image} />
      </span>
      <span class="dv-tile-name">{name}</span>
      <span class="dv-num">{reading}</span>
    </Button>
  );
}
