// One small heat map per word at this step, each on its own colour scale or all on a shared one.

import { useComputed } from "@preact/signals";
import { Fragment } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { groupByEncoder } from "../core/alignWords";
import type { Context } from "../core/context";
import { value } from "../core/format";
import { unitOf, withMaps } from "../core/mapKind";
import { valueAt } from "../core/mapSampling";
import { splitPrompt } from "../core/splitWords";
import type { Run } from "../core/store";
import { colourOf, distinctName, nameOf, peakOf } from "../core/wordLabels";
import { wordEvents } from "../gestures/chooseWord";
import { isTouch } from "../gestures/touch";
import { rangeOf } from "../stage/overlay";
import { Probe, pointIn } from "../stage/Probe";
import { RegionWords } from "../stage/RegionWords";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { CrossIcon } from "../ui/icons";
import { MapCanvas } from "../ui/MapCanvas";
import { useRovingFocus } from "../ui/rovingFocus";
import { useTileColumns } from "./tileColumns";

const SCALES = [
  { value: "own", label: "Own scale", title: "Each map from its lowest to its highest value" },
  { value: "shared", label: "Shared", title: "One scale for all words and all steps" },
] as const;

export function WordMaps({ context }: { readonly context: Context }) {
  const { store, viewState, traits } = context.session;
  const run = store.shown.value;
  const words = groupByEncoder(
    run?.info.words ?? [],
    ({ kind }) => kind === "word" || kind === "concept" || (viewState.showSpecial.value && kind !== "truncated"),
  );
  const region = viewState.region.value;
  const hasNoMaps = run !== null && !run.hasMaps;
  const focus = useRovingFocus(words.length);
  const section = useRef<HTMLElement>(null);
  const headings = words.flatMap(({ heading }, position) => (heading ? [position] : []));
  const starts = headings.length > 0 ? headings : [0];
  const count = run ? words.length : splitPrompt(traits.prompt.value).length;
  const groups = starts.map((start, i) => (starts[i + 1] ?? count) - start);
  const [h, w] = run?.info.image ?? [1, 1];
  useTileColumns(section, groups, headings.length, w / Math.max(1, h));
  return (
    <section class="dv-maps" aria-label="Heat map of each word" ref={section}>
      <div class="dv-title">
        <h3
          title={`${context.session.step?.refined && viewState.mapKind.value === "refined" ? "Refined attention of each word, relative to its mean" : "Attention of each word, 0 to 1"}: the peak of its map, or the value under the pointer`}
        >
          {region ? "Words this region attends to" : "Heat map of each word"}
        </h3>
        {hasNoMaps ? null : region ? (
          <Button
            class="dv-quiet dv-speed"
            aria-label="Clear the region"
            title="Clear the region (Esc)"
            onClick={() => {
              viewState.region.value = null;
            }}
          >
            <CrossIcon />
          </Button>
        ) : (
          <Choice
            label="Scale of the maps"
            options={SCALES}
            chosen={viewState.sharedScale.value ? "shared" : "own"}
            choose={(scale) => {
              viewState.sharedScale.value = scale === "shared";
            }}
          />
        )}
      </div>
      {hasNoMaps ? (
        <p class="dv-soft">The attention of this pipeline cannot be recorded, so there are no heat maps.</p>
      ) : run && region ? (
        <RegionWords context={context} run={run} region={region} />
      ) : (
        <div
          class="dv-tiles"
          role="toolbar"
          aria-label="Heat maps of the words"
          data-arrows
          onFocusIn={focus.onFocusIn}
          onKeyDown={focus.onKeyDown}
        >
          {run
            ? words.map(({ index, heading }, position) => (
                <Fragment key={`${run.info.run}-${index}`}>
                  {heading ? <span class="dv-encoder">{heading}</span> : null}
                  <Tile context={context} run={run} index={index} tabIndex={focus.tabIndex(position)} />
                </Fragment>
              ))
            : splitPrompt(traits.prompt.value).map((word, i) => (
                <span class="dv-tile" key={i} data-waiting>
                  <span class="dv-map" />
                  <bdi class="dv-tile-name">{word}</bdi>
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
  const { viewState } = context.session;
  const frame = useRef<HTMLSpanElement>(null);
  const word = run.info.words[index];
  const name = word?.encoder ? nameOf(word) : distinctName(run.info.words, index);
  const stepOf = () => {
    const step = run.nearest(viewState.step.value);
    return step && withMaps(step, viewState.mapKind.value);
  };
  const draw = () => {
    const step = stepOf();
    const range = step && rangeOf(run, step, index, viewState.sharedScale.value);
    return step && range ? { maps: step.maps, index, range } : null;
  };

  const readout = useComputed(() => {
    const step = stepOf();
    const probe = viewState.probe.value;
    const scale = step?.maps.scales[index];
    if (!step) return "–";
    if (!scale || !probe) return peakOf(scale, unitOf(step));
    const reading = valueAt(step.maps, index, probe.u, probe.v);
    return reading === null ? "–" : `here ${value(reading)}${unitOf(step)}`;
  });

  const read = (event: PointerEvent) => {
    viewState.probe.value = frame.current && pointIn(frame.current.getBoundingClientRect(), event, run.info.image);
  };
  const chosen = viewState.pinned.value.includes(index);
  const colour = colourOf(run.info.words, viewState.pinned.value, index);
  const isFirst = viewState.pinned.value[0] === index;
  useLayoutEffect(() => {
    if (isFirst) reveal(frame.current?.parentElement);
  }, [isFirst]);
  return (
    <Button
      class="dv-tile"
      data-stop
      data-testid={`map-${index}`}
      data-hovered={viewState.hovered.value === index || undefined}
      aria-pressed={chosen}
      title={distinctName(run.info.words, index)}
      tabIndex={tabIndex}
      style={colour ? { "--mark": colour } : undefined}
      {...wordEvents(viewState, index)}
      onPointerLeave={(event) => {
        viewState.hovered.value = null;
        if (!isTouch(event)) viewState.probe.value = null;
      }}
      onPointerDown={read}
      onPointerMove={read}
    >
      <span class="dv-map" aria-hidden="true" ref={frame}>
        <MapCanvas grid={run.info.grid} draw={draw} inputs={[run, index]} />
        <Probe viewState={viewState} image={run.info.image} />
      </span>
      <bdi class="dv-tile-name">{name}</bdi>
      <span class="dv-num">{readout}</span>
    </Button>
  );
}

/** Scrolls the tiles, and nothing around them, until one of them is in view. */
function reveal(tile: Element | null | undefined): void {
  const [shown, box] = [tile, tile?.parentElement].map((element) => element?.getBoundingClientRect());
  if (!shown || !box) return;
  const past = (from: number, to: number, first: number, last: number) =>
    Math.max(0, to - last) - Math.max(0, first - from);
  tile?.parentElement?.scrollBy(
    past(shown.left, shown.right, box.left, box.right),
    past(shown.top, shown.bottom, box.top, box.bottom),
  );
}
