// The layer x head matrix: a word's map in every layer, and in every head where they were kept. Fetched when opened.

import {
  ATTENTION,
  Button,
  Choice,
  type Context,
  Fragment,
  fullNameOf,
  MapCanvas,
  useArrows,
  useLayoutEffect,
  useMemo,
  useReaction,
  useSignal,
  value,
} from "../../app/coreExports";
import { keyOf, type LayerMap, Layers, shortName, titleOf } from "./layerMaps";

const ORDERS = [
  { value: "network", label: "In order", title: "As they follow one another in the network" },
  { value: "focus", label: "By focus", title: "Those that keep to few places first: 1 is one cell, 0 is everywhere" },
] as const;

export function LayerGrid({ context }: { readonly context: Context }) {
  const { session } = context;
  const layers = useMemo(() => new Layers(session), [session]);
  const order = useSignal<"network" | "focus">("network");
  const run = session.store.shown.value;
  const { word } = layers;
  const answer = layers.answer.value;
  useReaction(() => layers.want(), [layers]);
  useReaction(() => {
    if (session.traits.overlay.value === ATTENTION) session.look.lens.value = layers;
  }, [layers]);
  useLayoutEffect(
    () => () => {
      if (session.look.lens.value === layers) session.look.lens.value = null;
    },
    [layers],
  );
  const maps = run && answer && answer.run === run.info.run && answer.word === word ? answer.maps : [];
  const sorted = order.value === "focus";
  const shown = sorted ? maps.toSorted((a, b) => (b.focus ?? -1) - (a.focus ?? -1)) : maps;
  const heads = Math.max(0, ...maps.map(({ head }) => (head ?? -1) + 1));
  const arrows = useArrows(shown.length);
  const kept = layers.pinned.value.flatMap((key) => maps.find((one) => keyOf(one) === key) ?? []);
  const keptArrows = useArrows(kept.length);
  const hint =
    word === undefined
      ? "Choose a word to see it layer by layer."
      : !session.connected.value
        ? "The layers are in the kernel, and the kernel is gone."
        : layers.problem.value;
  return (
    <section class="dv-layers" aria-label="Layers">
      <div class="dv-title">
        <h3>{word === undefined ? "Layers" : `Layers of ${fullNameOf(run?.info.words[word])}`}</h3>
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
      {hint ? <p class="dv-foot">{hint}</p> : null}
      {kept.length > 0 ? (
        <div
          class="dv-tiles dv-pins"
          role="toolbar"
          aria-label="Maps kept on top"
          data-arrows
          onFocusIn={keptArrows.onFocusIn}
          onKeyDown={keptArrows.onKeyDown}
        >
          {kept.map((one, position) => (
            <LayerTile
              key={keyOf(one)}
              layers={layers}
              one={one}
              name={titleOf(one)}
              tabIndex={keptArrows.tabIndex(position)}
            />
          ))}
        </div>
      ) : null}
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
              layers={layers}
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
  readonly layers: Layers;
  readonly one: LayerMap;
  readonly name: string;
  readonly tabIndex: 0 | -1;
}

function LayerTile({ layers, one, name, tabIndex }: TileProps) {
  const { drilled } = layers;
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
      title={`${one.layer}, ${maps.height} x ${maps.width}, ${one.head === null ? "mean over heads" : `head ${one.head + 1}`} (Shift-click keeps it on top)`}
      onKeyDown={(event) => {
        // Browsers make a click of Enter, but one without Shift.
        if (event.key !== "Enter" || !event.shiftKey) return;
        layers.pin(key);
        event.preventDefault();
      }}
      onClick={(event) => {
        if (event.shiftKey) layers.pin(key);
        else {
          drilled.value = drilled.value === key ? null : key;
          layers.lay();
        }
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
