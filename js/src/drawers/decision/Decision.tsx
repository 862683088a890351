// The decision step of a word: the word is replaced from each step on, and the final images are measured. The curve is
// aligned with the filmstrip, and moves the same slider.

import {
  Choice,
  type Context,
  contentWords,
  score,
  stepNumber,
  useLayoutEffect,
  useMemo,
  useReaction,
  useSignal,
} from "../../app/coreExports";
import { ImageOf } from "../ImageOf";
import { Progress } from "../Progress";
import { type DecisionCurve, Decisions, frameAt, nameOf, sentence, shareAt } from "./decisionCurve";

const SEEDS = 4;
const MAX_SEEDS = 32;
/** How the names of this drawer's marks end. */
const MARK = "decided";

function Title() {
  return (
    <div class="dv-title">
      <h3>Decision step of a word</h3>
    </div>
  );
}

export function Decision({ context }: { readonly context: Context }) {
  const { session } = context;
  const { viewState, store, traits } = session;
  const decisions = useMemo(() => new Decisions(session), [session]);
  const chosenWord = useSignal("");
  const to = useSignal("");
  const seeds = useSignal(String(SEEDS));
  const complaint = useSignal("");
  const run = store.shown.value;
  useReaction(() => decisions.request(), [decisions]);
  useReaction(() => {
    const curve = decisions.shown;
    const length = store.shown.value?.length ?? 1;
    const others = viewState.marks.peek().filter(({ name }) => !name.endsWith(MARK));
    const at = curve?.decision;
    const step = at == null || !curve ? null : Math.min(length - 1, Math.floor((at / curve.steps) * length));
    const name = `${curve?.word} ${MARK}`;
    const marks = step === null ? [] : [{ name, step, what: name }];
    if (marks.length > 0 || others.length < viewState.marks.peek().length)
      viewState.marks.value = [...marks, ...others];
  }, [decisions]);
  useLayoutEffect(
    () => () => {
      decisions.job.cancel();
      viewState.marks.value = viewState.marks.peek().filter(({ name }) => !name.endsWith(MARK));
    },
    [decisions],
  );
  if (!run) return null;

  const words = [...new Set(run.info.words.flatMap(({ text, kind }) => (kind === "word" ? [text.toLowerCase()] : [])))];
  const pinned = viewState.pinned.value.map((index) => run.info.words[index]?.text.toLowerCase() ?? "");
  const concepts = traits.concepts.value.map((concept) => concept.toLowerCase());
  const named = contentWords(
    run.info.words,
    run.info.words.map(() => [0, 1] as const),
  ).map((index) => run.info.words[index]?.text.toLowerCase() ?? "");
  const word =
    [chosenWord.value, ...pinned, ...concepts, ...named, ...words].find((candidate) => words.includes(candidate)) ?? "";
  const isRunning = decisions.job.isRunning;
  const ended = run.end.value !== null && !session.busy.value;
  const shown = decisions.shown;

  const compute = () => {
    const count = /^\s*\d+\s*$/.test(seeds.value) ? Number(seeds.value) : 0;
    if (to.value.trim() === "") complaint.value = `Type a word to replace “${word}” with.`;
    else if (count < 1 || count > MAX_SEEDS)
      complaint.value = `seeds is “${seeds.value.trim()}”: it must be a whole number from 1 to ${MAX_SEEDS}.`;
    else {
      complaint.value = "";
      decisions.compute(word, to.value, count);
    }
  };
  if (!traits._can_run.value)
    return (
      <section class="dv-decision" aria-label="Decision">
        <Title />
        <p class="dv-foot">This needs the pipeline, and a recorded run has none: use dv.DiffVis(pipe).</p>
      </section>
    );
  return (
    <section class="dv-decision" aria-label="Decision">
      <Title />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isRunning && ended) compute();
        }}
      >
        <label>
          <span>Replace</span>
          <select
            aria-label="Word"
            value={word}
            disabled={isRunning}
            onChange={(event) => {
              chosenWord.value = event.currentTarget.value;
            }}
          >
            {words.map((text) => (
              <option key={text}>{text}</option>
            ))}
          </select>
        </label>
        <label>
          <span>with</span>
          <input
            type="text"
            class="dv-to"
            autocomplete="off"
            aria-label="Replacement"
            placeholder="another word"
            maxLength={200}
            disabled={isRunning}
            value={to.value}
            onInput={(event) => {
              to.value = event.currentTarget.value;
              complaint.value = "";
            }}
          />
        </label>
        <label title="Images with how many different seeds. The band is the 95 % interval of the mean share; the decision step has an interval from five seeds on">
          <span>seeds</span>
          <input
            type="text"
            inputMode="numeric"
            class="dv-count-of-seeds"
            autocomplete="off"
            disabled={isRunning}
            value={seeds.value}
            onInput={(event) => {
              seeds.value = event.currentTarget.value;
              complaint.value = "";
            }}
          />
        </label>
        <button type="submit" class="dv-do" data-testid="compute-decision" disabled={isRunning || !ended}>
          Find the decision step
        </button>
      </form>
      {complaint.value || decisions.problem.value ? (
        <p class="dv-problem" role="alert">
          {complaint.value || decisions.problem.value}
        </p>
      ) : (
        <Progress job={decisions.job} what="The decision step" />
      )}
      {decisions.curves.value.length > 1 && shown ? (
        <Choice
          label="Replaced words"
          options={decisions.curves.value.map((curve) => ({
            value: nameOf(curve),
            label: nameOf(curve),
            title: `${curve.word} replaced by ${curve.to}`,
          }))}
          chosen={nameOf(shown)}
          choose={(name) => {
            decisions.chosen.value = name;
          }}
        />
      ) : null}
      {shown ? (
        <Curve context={context} curve={shown} length={run.length} />
      ) : isRunning || complaint.value ? null : (
        <p class="dv-foot">
          {ended
            ? "Swaps the words at different steps, finishes each image, and measures which of the two it shows."
            : "Available when the run is done."}
        </p>
      )}
    </section>
  );
}

const WIDTH = 1000;
const HEIGHT = 100;

interface CurveProps {
  readonly context: Context;
  readonly curve: DecisionCurve;
  readonly length: number;
}

function Curve({ context, curve, length }: CurveProps) {
  const { session, player } = context;
  const { viewState } = session;
  const { word, to, steps, decision, interval, seeds } = curve;
  const x = (step: number) => Math.round((step / steps) * WIDTH * 10) / 10;
  const y = (share: number) => Math.round((1 - share) * HEIGHT * 10) / 10;
  const line = (row: readonly (number | null)[]) =>
    row.flatMap((share, i) => (share === null ? [] : `${x(curve.switch[i] ?? 0)} ${y(share)}`)).join("L");
  const upper = line(curve.band.map(([, high]) => high));
  const lower = line(curve.band.map(([low]) => low))
    .split("L")
    .reverse()
    .join("L");
  const band = upper && `M${upper}L${lower}Z`;
  const at = (viewState.step.value / length) * steps;
  const now = shareAt(curve, at);
  const readout =
    now === null ? "" : `replaced from step ${stepNumber(viewState.step.value)} on: share of ${word} ${score(now)}`;
  const seek = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    session.goTo(Math.floor(((event.clientX - box.left) / box.width) * length));
  };
  return (
    <figure>
      <p role="status">{sentence(curve)}</p>
      <div
        class="dv-plot"
        role="slider"
        tabIndex={0}
        data-testid="decision-curve"
        aria-label={`Step from which ${word} is replaced by ${to}`}
        aria-valuemin={1}
        aria-valuemax={length}
        aria-valuenow={stepNumber(viewState.step.value)}
        aria-valuetext={readout || `step ${stepNumber(viewState.step.value)}`}
        onPointerDown={(event) => {
          if (event.button !== 0) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          player.pause();
          seek(event);
        }}
        onPointerMove={(event) => {
          if (event.currentTarget.hasPointerCapture(event.pointerId)) seek(event);
        }}
      >
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {interval[0] !== null && interval[1] !== null ? (
            <rect x={x(interval[0])} y={0} width={x(interval[1]) - x(interval[0])} height={HEIGHT} />
          ) : null}
          {band ? <path class="dv-spread" d={band} /> : null}
          {seeds > 1 ? curve.shares.map((row, i) => <path class="dv-one" key={i} d={`M${line(row)}`} />) : null}
          <path d={`M${line(curve.mean)}`} />
          {decision === null ? null : <line x1={x(decision)} x2={x(decision)} y1={0} y2={HEIGHT} />}
        </svg>
        <span>{word}</span>
        <span>{to}</span>
        {now === null ? null : (
          <i class="dv-dot" style={{ left: `${(at / steps) * 100}%`, top: `${(1 - now) * 100}%` }} />
        )}
      </div>
      <figcaption>
        Share of {word} against {to} in the final image, by the step from which it is replaced
        {seeds > 1 ? `: ${seeds} seeds, mean and 95 % band` : ""}
        <span class="dv-num">{readout}</span>
      </figcaption>
      {curve.images.length === curve.switch.length ? <Film curve={curve} at={at} seek={seek} /> : null}
    </figure>
  );
}

interface FilmProps {
  readonly curve: DecisionCurve;
  /** The step of the slider, in steps of the curve. */
  readonly at: number;
  readonly seek: (event: PointerEvent) => void;
}

/** The final images by the step of the replacement, aligned with the curve; large, the one of the slider's step. */
function Film({ curve, at, seek }: FilmProps) {
  const { word, to, steps, images } = curve;
  const frame = frameAt(curve, at);
  const from = curve.switch[frame] ?? 0;
  const never = curve.switch.at(-1) === steps ? images.at(-1) : undefined;
  return (
    <>
      <div class="dv-changed-film" data-testid="decision-film" aria-hidden="true" onPointerDown={seek}>
        {curve.switch.map((step, i) =>
          step < steps ? (
            <span
              key={step}
              data-chosen={i === frame || undefined}
              style={{ flexGrow: (curve.switch[i + 1] ?? steps) - step }}
            >
              <ImageOf bytes={images[i]} alt="" />
            </span>
          ) : null,
        )}
      </div>
      <div class="dv-changed">
        <p>
          <ImageOf
            bytes={images[frame]}
            alt={`The final image with ${to} in place of ${word} from step ${stepNumber(from)} on`}
          />
          <span>{`If “${word}” had become “${to}” at step ${stepNumber(from)}`}</span>
        </p>
        {never ? (
          <p>
            <ImageOf bytes={never} alt={`The final image with ${word}`} />
            <span>{`“${word}” to the end`}</span>
          </p>
        ) : null}
      </div>
    </>
  );
}
