// The layer x head matrix: a word's map in every layer, and in every head where they were kept. Fetched when opened.

import { useSignal } from "@preact/signals";
import { Fragment } from "preact";
import { value } from "../core/format";
import { keyOf, shortName, titleOf } from "../core/layers";
import type { LayerMap } from "../core/protocol";
import type { Run } from "../core/store";
import { useArrows } from "./arrows";
import { Button } from "./Button";
import { fullNameOf } from "./Chips";
import { Choice } from "./Choice";
import type { Context } from "./context";
import { MapCanvas } from "./MapCanvas";

const ORDERS = [
  { value: "network", label: "In order", title: "As they follow one another in the network" },
  { value: "focus", label: "By focus", title: "Those that keep to few places first: 1 is one cell, 0 is everywhere" },
] as const;

export function LayerGrid({ context }: { readonly context: Context }) {
  const run = context.session.store.shown.value;
  return run && run.info.layers > 0 && run.mapped ? <Matrix context={context} run={run} /> : null;
}

interface Props {
  readonly context: Context;
  readonly run: Run;
}

function Matrix({ context, run }: Props) {
  const { session } = context;
  const { layers } = session;
  const order = useSignal<"network" | "focus">("network");
  const word = session.layered;
  const open = layers.open.value;
  const answer = layers.answer.value;
  const maps = open && answer && answer.run === run.info.run && answer.word === word ? answer.maps : [];
  const sorted = order.value === "focus";
  const shown = sorted ? maps.toSorted((a, b) => (b.focus ?? -1) - (a.focus ?? -1)) : maps;
  const heads = Math.max(0, ...maps.map(({ head }) => (head ?? -1) + 1));
  const arrows = useArrows(shown.length);
  const hint =
    word === undefined
      ? "Choose a word to see it layer by layer."
      : !session.connected.value
        ? "The layers are in the kernel, and the kernel is gone."
        : layers.problem.value;
  return (
    <section class="dv-layers" aria-label="Layers">
      <div class="dv-title">
        <Button
          class="dv-open"
          aria-expanded={open}
          data-testid="layers"
          onClick={() => {
            layers.open.value = !open;
          }}
        >
          {open ? "−" : "+"} {word === undefined ? "Layers" : `Layers of ${fullNameOf(run.info.words[word])}`}
        </Button>
        {maps.length > 0 ? (
          <Choice
            label="Order of the layers"
            options={ORDERS}
            chosen={order.value}
            choose={(next) => {
              order.value = next;
            }}
          />
        ) : null}
      </div>
      {open && hint ? <p class="dv-foot">{hint}</p> : null}
      <div
        class="dv-tiles"
        role="toolbar"
        aria-label="Heat maps of the layers"
        data-arrows
        style={heads > 1 && !sorted ? { gridTemplateColumns: `6em repeat(${heads},minmax(0,72px))` } : undefined}
        onFocusIn={arrows.onFocusIn}
        onKeyDown={arrows.onKeyDown}
      >
        {shown.map((one, position) => (
          <Fragment key={keyOf(one)}>
            {one.head === 0 && !sorted ? <span class="dv-num">{shortName(one.layer)}</span> : null}
            <LayerTile
              context={context}
              one={one}
              name={one.head === null || sorted ? titleOf(one) : String(one.head + 1)}
              tabIndex={arrows.tabIndex(position)}
            />
          </Fragment>
        ))}
      </div>
    </section>
  );
}

interface TileProps {
  readonly context: Context;
  readonly one: LayerMap;
  readonly name: string;
  readonly tabIndex: 0 | -1;
}

function LayerTile({ context, one, name, tabIndex }: TileProps) {
  const { drilled } = context.session.layers;
  const { maps, focus } = one;
  const key = keyOf(one);
  const range = maps.scales[0];
  return (
    <Button
      class="dv-tile"
      data-stop
      aria-pressed={drilled.value === key}
      style={{ "--mark": "var(--data)" }}
      tabIndex={tabIndex}
      title={`${one.layer}, ${maps.height} x ${maps.width}, ${one.head === null ? "mean over heads" : `head ${one.head + 1}`}`}
      onClick={() => {
        drilled.value = drilled.value === key ? null : key;
      }}
    >
      <span class="dv-map" aria-hidden="true">
        <MapCanvas
          grid={[maps.height, maps.width]}
          draw={() => (range ? { maps, index: 0, range } : null)}
          inputs={[maps]}
        />
      </span>
      <span class="dv-tile-name">{name}</span>
      <span class="dv-num">{focus === null ? "–" : value(focus)}</span>
    </Button>
  );
}
