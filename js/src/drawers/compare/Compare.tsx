// Two runs on one slider: side by side, one wiped over the other, or their difference; and where they diverge.

import {
  Button,
  Choice,
  type Context,
  fitImage,
  fullNameOf,
  linePath,
  Overlay,
  type Run,
  SPARK,
  StageImage,
  stepNumber,
  useCanvas,
  useLayoutEffect,
  useMemo,
  useReaction,
  useSignal,
  value,
} from "../../app/coreExports";
import { RunHistory, settingsOf } from "../runHistory";
import { Comparison, type WordPair } from "./comparison";

const MODES = [
  { value: "side", label: "Side by side", title: "A on the left, B on the right" },
  { value: "swipe", label: "Swipe", title: "A covers B up to the line" },
  { value: "difference", label: "Difference", title: "Per-pixel difference, mean over red, green and blue" },
] as const;
const DIVERGE = "A and B diverge";
type Mode = (typeof MODES)[number]["value"];

export function Compare({ context }: { readonly context: Context }) {
  const { session } = context;
  const { viewState, store } = session;
  const comparison = useMemo(() => new Comparison(session), [session]);
  const runs = useMemo(() => new RunHistory(session), [session]);
  const mode = useSignal<Mode>("side");
  useReaction(() => runs.request(), [runs]);
  useReaction(() => comparison.requestRun(), [comparison]);
  useReaction(() => comparison.requestNumbers(), [comparison]);
  useReaction(() => {
    const row = comparison.numbers.value?.divergence_step;
    const step = row == null ? undefined : comparison.numbers.value?.steps[row]?.[1];
    const marks = step === undefined ? [] : [{ name: DIVERGE, step, what: DIVERGE }];
    viewState.marks.value = [...marks, ...viewState.marks.peek().filter(({ name }) => name !== DIVERGE)];
  }, [comparison]);
  useLayoutEffect(
    () => () => {
      viewState.marks.value = viewState.marks.peek().filter(({ name }) => name !== DIVERGE);
    },
    [viewState],
  );
  const b = store.shown.value;
  const a = comparison.a.value;
  const others = runs.entries.value.filter(({ run }) => run !== b?.info.run);
  if (!b) return null;
  return (
    <section class="dv-compare" aria-label="Compare">
      <div class="dv-title">
        <label>
          <h3>A</h3>
          <select
            aria-label="The run to compare with"
            value={comparison.runId}
            disabled={others.length === 0}
            onChange={(event) => {
              viewState.compareWith.value = event.currentTarget.value;
            }}
          >
            {others.length === 0 ? <option>{a?.info.prompt ?? "no other run"}</option> : null}
            {others.toReversed().map((entry) => (
              <option key={entry.run} value={entry.run}>{`${entry.prompt} · ${settingsOf(entry)}`}</option>
            ))}
          </select>
        </label>
        <Choice
          label="Layout of the comparison"
          options={MODES}
          chosen={mode.value}
          choose={(next) => {
            mode.value = next;
          }}
        />
      </div>
      {a ? (
        <>
          <div class="dv-pair" data-mode={mode.value}>
            <Images key={mode.value} context={context} comparison={comparison} a={a} b={b} mode={mode.value} />
            <Distance context={context} comparison={comparison} b={b} />
          </div>
          <Words context={context} comparison={comparison} a={a} b={b} />
        </>
      ) : (
        <p class="dv-foot">
          {comparison.problem.value ||
            "Run again with another prompt, seed or schedule: the earlier run becomes A, the new one B."}
        </p>
      )}
    </section>
  );
}

interface Props {
  readonly context: Context;
  readonly comparison: Comparison;
  readonly b: Run;
}

function Images({ context, comparison, a, b, mode }: Props & { readonly a: Run; readonly mode: Mode }) {
  const { viewState } = context.session;
  const [left, right] = useMemo(
    () => [new StageImage(context.images), new StageImage(context.images)] as const,
    [context],
  );
  const overlay = useMemo(() => new Overlay(), []);
  const line = useSignal(0.5);
  const now = () => {
    const [, at] = comparison.partner(viewState.step.value);
    return [a.nearest(at), b.nearest(viewState.step.value)] as const;
  };

  const draw = (c: CanvasRenderingContext2D, size: Parameters<typeof fitImage>[1], side: "a" | "b") => {
    const [run, step] = side === "a" ? [a, now()[0]] : [b, now()[1]];
    if (!step) return;
    const box = fitImage(run.info.image, size);
    const pairs = comparison.pairs(a, b);
    const words = viewState.words.value.flatMap((word) => {
      const index = side === "b" ? word : pairs.find((pair) => pair.b === word)?.a;
      return index == null ? [] : [index];
    });
    const view = viewState.stage.value === "change" ? "prediction" : viewState.stage.value;
    (side === "a" ? left : right).draw(c, step, view, box, size, words.length > 0);
    if (words.length > 0) overlay.draw(c, run, step, words, viewState, box);
  };

  const first = useCanvas((_, c, size) => {
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    const [stepA, stepB] = now();
    if (mode === "difference" && stepA && stepB) {
      const box = fitImage(b.info.image, size);
      left.drawChange(c, stepB, stepA, box, size, false);
      return;
    }
    if (mode === "side") {
      draw(c, size, "a");
      return;
    }
    draw(c, size, "b");
    const x = line.value * size.width * size.ratio;
    c.save();
    c.beginPath();
    c.rect(0, 0, x, size.height * size.ratio);
    c.clip();
    draw(c, size, "a");
    c.restore();
    for (const [width, colour] of [
      [4, "#000a"],
      [2, "#fff"],
    ] as const) {
      c.fillStyle = colour;
      c.fillRect(x - (width * size.ratio) / 2, 0, width * size.ratio, size.height * size.ratio);
    }
  });
  const second = useCanvas((_, c, size) => {
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    draw(c, size, "b");
  });
  const [stepA, stepB] = now();
  const change = mode === "difference" && stepA ? left.change(stepB ?? stepA, stepA) : undefined;
  const drag = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    line.value = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const title = (side: string, run: Run) => `${side}: ${run.info.prompt}, step ${stepNumber(viewState.step.value)}`;
  return (
    <>
      <figure>
        <div
          class="dv-frame"
          onPointerDown={(event) => {
            if (mode !== "swipe") return;
            event.currentTarget.setPointerCapture(event.pointerId);
            drag(event);
          }}
          onPointerMove={(event) => {
            if (event.currentTarget.hasPointerCapture(event.pointerId)) drag(event);
          }}
        >
          <canvas
            ref={first}
            role="img"
            aria-label={
              mode === "side"
                ? title("A", a)
                : `${mode === "swipe" ? "A over B" : "Difference of A and B"}: ${title("B", b)}`
            }
          />
        </div>
        <figcaption>
          {mode === "side" ? (
            <>
              <b>A</b> {a.info.prompt}
            </>
          ) : mode === "swipe" ? (
            <input
              type="range"
              min={0}
              max={1}
              step={0.01}
              aria-label="The line between A and B"
              value={line.value}
              onInput={(event) => {
                line.value = Number(event.currentTarget.value);
              }}
            />
          ) : change ? (
            `Bright: large difference, up to ${value(change.max)} of 255`
          ) : (
            "\u00a0"
          )}
        </figcaption>
      </figure>
      <figure hidden={mode !== "side"}>
        <div class="dv-frame">
          <canvas ref={second} role="img" aria-label={title("B", b)} />
        </div>
        <figcaption>
          <b>B</b> {b.info.prompt}
        </figcaption>
      </figure>
    </>
  );
}

/** The distance between the runs over the steps. */
function Distance({ context, comparison, b }: Props) {
  const { viewState } = context.session;
  const numbers = comparison.numbers.value;
  const hint = comparison.problem.value || (b.end.value ? "" : "The divergence step is computed when the run is done.");
  if (!numbers) return <p class="dv-foot">{hint}</p>;
  const byStep: (number | null)[] = [];
  numbers.steps.forEach(([, step], row) => {
    byStep[step] = numbers.distance[row] ?? null;
  });
  const dense = Array.from(byStep, (distance) => distance ?? null);
  const most = Math.max(numbers.threshold * 1.5, ...dense.map((distance) => distance ?? 0));
  const position = (distance: number) => distance / most;
  const axis = { range: [0, most] as const, position };
  const divergence = numbers.divergence_step === null ? undefined : numbers.steps[numbers.divergence_step]?.[1];
  const [row] = comparison.partner(viewState.step.value);
  const now = numbers.distance[row] ?? null;
  const level = SPARK.y(position(numbers.threshold));
  return (
    <div class="dv-course">
      <p>
        <strong>
          {divergence === undefined ? "They do not diverge" : `They diverge at step ${stepNumber(divergence)}`}
        </strong>
        <span class="dv-num">{now === null ? "–" : value(now)}</span>
      </p>
      <div class="dv-spark">
        <svg viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" aria-hidden="true">
          <line x1={0} x2={SPARK.width} y1={level} y2={level} />
          <path d={linePath(dense, b.length, axis)} />
        </svg>
        {now === null ? null : (
          <i
            style={{
              transform: `translate(${((viewState.step.value + 0.5) / b.length) * 100}%,${(SPARK.y(position(now)) / SPARK.height) * 100}%)`,
            }}
          >
            <b class="dv-dot" />
          </i>
        )}
      </div>
      <p class="dv-foot" title="Root mean square difference of the predicted latents over the spread of the final ones">
        Distance between the predictions. Above the dashed line, {value(numbers.threshold)}, the runs count as diverged.
        {numbers.align === "noise" ? " Steps are paired by noise level." : ""}
      </p>
    </div>
  );
}

/** The aligned words of both prompts, each with the distance between its heat maps at this step. */
function Words({ context, comparison, a, b }: Props & { readonly a: Run }) {
  const { viewState } = context.session;
  const numbers = comparison.numbers.value;
  const [row] = comparison.partner(viewState.step.value);
  const pairs = comparison.pairs(a, b);
  const nameIn = (run: Run, index: number | null) => (index === null ? "" : fullNameOf(run.info.words[index]));
  const distanceOf = (pair: WordPair) => {
    const at = numbers ? numbers.words.indexOf(pair) : -1;
    return at < 0 ? null : (numbers?.maps[row]?.[at] ?? null);
  };
  return (
    <div class="dv-chips">
      {pairs.map((pair, i) => {
        const distance = distanceOf(pair);
        const { b: index } = pair;
        const label =
          pair.change === "replaced" ? (
            <>
              <s>{nameIn(a, pair.a)}</s> {nameIn(b, index)}
            </>
          ) : pair.change === "removed" ? (
            <s>{nameIn(a, pair.a)}</s>
          ) : (
            nameIn(b, index)
          );
        return (
          <Button
            class="dv-chip"
            key={i}
            data-changed={pair.change !== "same" || undefined}
            disabled={index === null || !b.hasMaps}
            aria-pressed={index !== null && viewState.pinned.value.includes(index)}
            title={
              distance === null
                ? pair.change
                : `${pair.change}; distance between its heat maps: ${value(distance)} (0 identical, 1 disjoint)`
            }
            onClick={(event) => {
              if (index !== null) viewState.pin(index, event.shiftKey);
            }}
          >
            {label}
            {pair.change === "same" ? null : <span class="dv-sr"> ({pair.change})</span>}
            {distance === null ? null : <span class="dv-num">{distance.toFixed(2)}</span>}
          </Button>
        );
      })}
    </div>
  );
}
