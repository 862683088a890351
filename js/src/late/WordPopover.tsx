// What can be done with a word of the prompt: its weight, its layers, and what its heat map shows.

import {
  Button,
  type Context,
  CrossIcon,
  fullNameOf,
  unknownText,
  useLayoutEffect,
  usePlaced,
  useRef,
  type WordPopoverProps,
} from "../app/coreExports";
import { mapText } from "./mapText";
import { MAX_WEIGHT, roundToTenth, wordWeight } from "./wordWeight";

/** Drawers that show more of a word. */
const DRAWERS = [
  ["layers", "Layers"],
  ["map", "Its map"],
] as const;

/** A slider that rests for so long starts a run. */
const REST_MS = 200;

export function WordPopover({ context, run, index, chip, close }: WordPopoverProps<Context>) {
  const { session, drawers } = context;
  const { viewState } = session;
  const box = useRef<HTMLDivElement>(null);
  const word = run.info.words[index];
  usePlaced(box, chip);
  useLayoutEffect(() => {
    const root = box.current?.closest(".dv");
    const outside = ({ target }: Event) => {
      if (target instanceof Node && !box.current?.contains(target)) close();
    };
    root?.addEventListener("pointerdown", outside, { passive: true });
    box.current?.querySelector<HTMLElement>("input, button")?.focus({ preventScroll: true });
    return () => root?.removeEventListener("pointerdown", outside);
  }, [index]);
  if (!word) return null;
  const weight = wordWeight(session, word);
  const dragged = viewState.draggedWeight.value;
  const factor = dragged?.word === weight.key ? dragged.factor : weight.factor;
  const step = run.nearest(viewState.step.value);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const drop = () => {
    clearTimeout(timer.current);
    if (viewState.draggedWeight.value) weight.set(viewState.draggedWeight.value.factor, true);
    viewState.draggedWeight.value = null;
  };
  return (
    <div
      class="dv-popover"
      ref={box}
      role="dialog"
      aria-label={`The word ${fullNameOf(word)}`}
      data-testid="word-popover"
      onKeyDown={(event) => {
        event.stopPropagation();
        if (event.key !== "Escape") return;
        close();
        chip?.querySelector<HTMLElement>("button")?.focus();
      }}
    >
      <div class="dv-title">
        <h3>{fullNameOf(word)}</h3>
        <Button class="dv-quiet dv-speed" aria-label="Close" title="Close (Esc)" onClick={close}>
          <CrossIcon />
        </Button>
      </div>
      {weight.isFixed ? null : (
        <>
          <label>
            <span>Weight</span>
            <input
              type="range"
              min={0}
              max={MAX_WEIGHT}
              step={0.1}
              aria-label="Weight"
              value={factor ?? 0}
              onInput={(event) => {
                viewState.draggedWeight.value = {
                  word: weight.key,
                  factor: roundToTenth(Number(event.currentTarget.value)),
                };
                // Few steps answer while the slider is still held.
                clearTimeout(timer.current);
                timer.current = setTimeout(drop, REST_MS);
              }}
              onChange={drop}
            />
            <span class="dv-num">{factor === null ? "left out" : `×${factor}`}</span>
          </label>
          <div class="dv-popover-do">
            <Button class="dv-quiet" disabled={factor === null} onClick={() => weight.set(null)}>
              Leave out
            </Button>
            <Button class="dv-quiet" disabled={factor === 1} onClick={() => weight.set(1)}>
              Reset
            </Button>
            {DRAWERS.map(([drawer, label]) =>
              run.hasMaps && (drawer === "map" || run.info.layers.length > 0) ? (
                <Button
                  class="dv-quiet"
                  key={drawer}
                  onClick={() => {
                    viewState.pinned.value = [index];
                    drawers.show(drawer, session);
                    close();
                  }}
                >
                  {label}
                </Button>
              ) : null,
            )}
          </div>
        </>
      )}
      {run.hasMaps ? (
        <div class="dv-popover-do">
          <Button
            class="dv-quiet"
            data-testid="add-map"
            onClick={() => {
              viewState.pin(index, true);
              close();
            }}
          >
            {viewState.pinned.value.includes(index) ? "Take its map off the image" : "Add its map to the image"}
          </Button>
        </div>
      ) : null}
      {word.unknown ? <p>{unknownText([word.text], session.traits._vocabulary.value)}.</p> : null}
      {step ? <p>{mapText(step, index)}</p> : null}
      {weight.isFixed ? null : <p class="dv-soft">A higher weight strengthens the word; each change runs again.</p>}
    </div>
  );
}
