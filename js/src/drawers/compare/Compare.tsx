// Two runs on one slider: their images on the stage, and below where they diverge.

import {
  Button,
  Choice,
  type Context,
  fullNameOf,
  linePath,
  type Run,
  SPARK,
  stepNumber,
  useLayoutEffect,
  useMemo,
  useReaction,
  useSignal,
  value,
} from "../../app/coreExports";
import { differenceOf, type Entry, nameBeside, RunHistory } from "../runHistory";
import { ComparedImages, type Mode } from "./ComparedImages";
import { Comparison, type WordPair } from "./comparison";

const MODES: readonly { readonly value: Mode; readonly label: string; readonly title: string }[] = [
  { value: "side", label: "Side by side", title: "A on the left, B on the right" },
  { value: "swipe", label: "Swipe", title: "A covers B up to the line" },
  { value: "difference", label: "Difference", title: "Per-pixel difference, mean over red, green and blue" },
];
const DIVERGE = "A and B diverge";

export function Compare({ context }: { readonly context: Context }) {
  const { session } = context;
  const { viewState, store } = session;
  const comparison = useMemo(() => new Comparison(session), [session]);
  const runs = useMemo(() => new RunHistory(session), [session]);
  const mode = useSignal<Mode>("side");
  // The stage shows this view in place of its image while the drawer is open.
  const Images = useMemo(
    () =>
      function Compared() {
        const [a, b] = [comparison.a.value, store.shown.value];
        return a && b ? <ComparedImages key={mode.value} {...{ context, comparison, a, b }} mode={mode.value} /> : null;
      },
    [context, comparison],
  );
  useReaction(() => {
    const isReady = comparison.a.value !== null && store.shown.value !== null;
    context.onStage.value = isReady ? { View: Images, isPair: mode.value === "side" } : null;
  }, [context, comparison]);
  useReaction(() => runs.request(), [runs]);
  useReaction(() => {
    const shown = store.shown.value?.info.run;
    comparison.latestOther.value = runs.entries.value.findLast(({ run }) => run !== shown)?.run ?? "";
  }, [comparison, runs]);
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
      context.onStage.value = null;
      viewState.marks.value = viewState.marks.peek().filter(({ name }) => name !== DIVERGE);
    },
    [viewState],
  );
  const b = store.shown.value;
  const a = comparison.a.value;
  const others = runs.entries.value.filter(({ run }) => run !== b?.info.run);
  const [entryA, entryB] = [a, b].map((run) => runs.entries.value.find((entry) => entry.run === run?.info.run));
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
              <option key={entry.run} value={entry.run}>
                {nameBeside(entry, entryB)}
              </option>
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
          {entryA && entryB ? <Differences a={entryA} b={entryB} /> : null}
          <Distance context={context} comparison={comparison} b={b} />
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

/** What differs between the runs besides the words, which are marked below. */
function Differences({ a, b }: { readonly a: Entry; readonly b: Entry }) {
  const settings = differenceOf(a, b);
  const prompt = a.prompt === b.prompt ? "" : "prompt";
  const text = [prompt, settings].filter(Boolean).join(" · ");
  return <p data-testid="differences">{text ? `A → B: ${text}` : "A and B have the same prompt and settings"}</p>;
}

interface Props {
  readonly context: Context;
  readonly comparison: Comparison;
  readonly b: Run;
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
        <span class="dv-num">
          {now === null ? "–" : `distance at step ${stepNumber(viewState.step.value)}: ${value(now)}`}
        </span>
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
        Distance between the predictions. The runs count as diverged above the dashed line, {value(numbers.threshold)}:
        half of the final distance between two seeds of one prompt. The film and its marks are those of B.
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
      <span class="dv-soft">Distance between the heat maps:</span>
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
