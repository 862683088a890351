// A word's heat map in every layer, and in every head where heads were recorded.

import {
  ATTENTION,
  Button,
  Choice,
  type Context,
  Fragment,
  fullNameOf,
  MapCanvas,
  peakOf,
  useLayoutEffect,
  useMemo,
  useReaction,
  useRovingFocus,
  useSignal,
  value,
} from "../../app/coreExports";
import { keyOf, type LayerMap, Layers } from "./layerMaps";

const ORDERS = [
  { value: "network", label: "In order", title: "In the order of the network" },
  { value: "focus", label: "By focus", title: "Most focused first: 1 is a single cell, 0 is a flat map" },
] as const;

export function LayerGrid({ context }: { readonly context: Context }) {
  const { session } = context;
  const layers = useMemo(() => new Layers(session), [session]);
  const order = useSignal<"network" | "focus">("network");
  const run = session.store.shown.value;
  const { word } = layers;
  const received = layers.received.value;
  useReaction(() => layers.request(), [layers]);
  useReaction(() => {
    if (session.traits.overlay.value === ATTENTION) session.viewState.lens.value = layers;
  }, [layers]);
  useLayoutEffect(
    () => () => {
      if (session.viewState.lens.value === layers) session.viewState.lens.value = null;
    },
    [layers],
  );
  const maps = run && received?.run === run.info.run && received.word === word ? received.maps : [];
  const sorted = order.value === "focus";
  const shown = sorted ? maps.toSorted((a, b) => (b.focus ?? -1) - (a.focus ?? -1)) : maps;
  const heads = Math.max(0, ...maps.map(({ head }) => (head ?? -1) + 1));
  // The heads of a layer in a row, under one heading each.
  const inRows = heads > 1 && !sorted;
  const focus = useRovingFocus(shown.length);
  const pinned = layers.pinned.value.flatMap((key) => maps.find((map) => keyOf(map) === key) ?? []);
  const pinnedFocus = useRovingFocus(pinned.length);
  const hint =
    word === undefined
      ? "Select a word to see its heat map in each layer."
      : !session.connected.value
        ? "The heat maps of the layers are in the kernel, which is no longer running."
        : layers.problem.value;
  return (
    <section class="dv-layers" aria-label="Layers">
      <div class="dv-title">
        <h3>
          {word === undefined ? "Layers" : `Layers of ${fullNameOf(run?.info.words[word])}, each on its own scale`}
        </h3>
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
      {pinned.length > 0 ? (
        <div
          class="dv-tiles dv-pinned-maps"
          role="toolbar"
          aria-label="Pinned maps"
          data-arrows
          onFocusIn={pinnedFocus.onFocusIn}
          onKeyDown={pinnedFocus.onKeyDown}
        >
          {pinned.map((map, position) => (
            <LayerTile
              key={keyOf(map)}
              layers={layers}
              map={map}
              name={layers.titleOf(map)}
              tabIndex={pinnedFocus.tabIndex(position)}
            />
          ))}
        </div>
      ) : null}
      <div
        class="dv-tiles"
        role="toolbar"
        aria-label="Heat maps of the layers"
        data-arrows
        data-heads={inRows || undefined}
        style={inRows ? { gridTemplateColumns: `fit-content(22%) repeat(${heads},minmax(0,72px))` } : undefined}
        onFocusIn={focus.onFocusIn}
        onKeyDown={focus.onKeyDown}
      >
        {inRows
          ? Array.from({ length: heads + 1 }, (_, head) => (
              <span class="dv-num" key={`head ${head}`}>
                {head > 0 ? `head ${head}` : ""}
              </span>
            ))
          : null}
        {shown.map((map, position) => (
          <Fragment key={keyOf(map)}>
            {map.head === 0 && inRows ? <span class="dv-layer-name">{layers.nameOf(map)}</span> : null}
            <LayerTile
              layers={layers}
              map={map}
              name={inRows && map.head !== null ? "" : layers.titleOf(map)}
              tabIndex={focus.tabIndex(position)}
            />
          </Fragment>
        ))}
      </div>
    </section>
  );
}

interface TileProps {
  readonly layers: Layers;
  readonly map: LayerMap;
  readonly name: string;
  readonly tabIndex: 0 | -1;
}

function LayerTile({ layers, map, name, tabIndex }: TileProps) {
  const { maps, focus } = map;
  const key = keyOf(map);
  const range = maps.scales[0];
  return (
    <Button
      class="dv-tile"
      data-stop
      aria-pressed={layers.selected.value === key}
      style={{ "--mark": "var(--data)" }}
      tabIndex={tabIndex}
      aria-label={`${layers.titleOf(map)}, ${peakOf(range)}`}
      title={`${map.layer}, ${maps.height} x ${maps.width}, ${map.head === null ? "mean over heads" : `head ${map.head + 1}`}, focus ${focus === null ? "–" : value(focus)}. Shift-click to pin it`}
      onKeyDown={(event) => {
        // Browsers turn Enter into a click, but into one without Shift.
        if (event.key !== "Enter" || !event.shiftKey) return;
        layers.pin(key);
        event.preventDefault();
      }}
      onClick={(event) => {
        if (event.shiftKey) layers.pin(key);
        else layers.toggle(key);
      }}
    >
      <span class="dv-map" aria-hidden="true">
        <MapCanvas
          grid={[maps.height, maps.width]}
          draw={() => (range ? { maps, index: 0, range } : null)}
          inputs={[maps]}
        />
      </span>
      {name ? <span class="dv-tile-name">{name}</span> : null}
      <span class="dv-num">{peakOf(range)}</span>
    </Button>
  );
}
