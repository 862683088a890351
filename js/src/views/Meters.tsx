// Concept meters: how well the image of each step matches a word, measured by a CLIP model.

import { useComputed, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { Context } from "../core/context";
import { score } from "../core/format";
import { stepNumber } from "../core/stepNumbers";
import type { Run, Scores } from "../core/store";
import { usePointerReadout } from "../gestures/pointerReadout";
import { useMeterOrder } from "../gestures/reorderMeters";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { CrossIcon } from "../ui/icons";
import { type Axis, axisOf, bandPath, linePath, SPARK } from "../ui/spark";
import { useReaction } from "../ui/useCanvas";

const SCALES = [
  {
    value: "cosine",
    label: "Cosine",
    title:
      "How similar CLIP finds the image and the word. Grey band: scores of unrelated words (5th to 95th percentile).",
  },
  {
    value: "share",
    label: "Share",
    title: "Which of these concepts fits best, not whether any of them is there (softmax).",
  },
] as const;

export function Meters({ context }: { readonly context: Context }) {
  const { session } = context;
  const { store, traits, viewState } = session;
  const run = store.shown.value;
  const scores = run?.scores.value ?? null;
  const concepts = traits.concepts.value;
  const shareable = scores?.share != null;
  const scale = shareable ? viewState.meterScale.value : "cosine";
  const axis = axisOf(scores, scale, true);
  const spark = axisOf(scores, scale, false);
  const meter = scores?.meter ?? run?.info.meter ?? null;
  const order = useMeterOrder(context);
  const unmeasured = run !== null && meter === null;
  const removed = useSignal<{ readonly concept: string; readonly at: number } | null>(null);
  const undone = removed.value && !concepts.includes(removed.value.concept) ? removed.value : null;
  // A recorded page has no model that could measure anything.
  const isClosed = session.isOffline && unmeasured;

  return (
    <section class="dv-meters" aria-label="Concepts">
      <div class="dv-title">
        <h3 title={meter ? `Measured by ${meter}` : undefined}>Concepts</h3>
        {isClosed ? null : (
          <Choice
            label="Scale of the meters"
            options={SCALES.map((entry) => ({
              ...entry,
              disabled: entry.value === "share" && !shareable,
              title: entry.value === "share" && !shareable ? "Share compares at least two concepts" : entry.title,
            }))}
            chosen={scale}
            choose={(next) => {
              viewState.meterScale.value = next;
            }}
          />
        )}
      </div>
      <ul ref={order.listRef} {...order.listEvents}>
        {concepts.map((concept) => (
          <Meter
            key={concept}
            context={context}
            order={order}
            concept={concept}
            run={run}
            scores={scores}
            position={scores?.concepts.indexOf(concept) ?? -1}
            scale={scale}
            axis={axis}
            spark={spark}
            onRemove={(at) => {
              removed.value = { concept, at };
            }}
          />
        ))}
      </ul>
      <Verdicts context={context} scores={scores} />
      {isClosed ? null : <AddConcept context={context} />}
      {undone ? (
        <p class="dv-foot" role="status">
          {`“${undone.concept}” was removed. `}
          <Button
            class="dv-quiet"
            data-testid="undo-concept"
            onClick={() => session.set({ concepts: concepts.toSpliced(undone.at, 0, undone.concept) })}
          >
            Undo
          </Button>
        </p>
      ) : (
        <p class="dv-foot" title={meter ?? undefined}>
          {unmeasured
            ? session.isOffline
              ? "The concepts of this run were not measured."
              : "This model has no meter yet: choose one with dv.DiffVis(…, meter=dv.ConceptMeter(…))"
            : concepts.length === 0
              ? "Add a word to see how well the image of each step matches it."
              : scale === "cosine"
                ? "Grey band: scores of unrelated words; inside it a score means nothing."
                : "Share: how well each concept fits compared with the others; together they are 1."}
        </p>
      )}
    </section>
  );
}

const VERDICTS = { 1: "present", 0: "absent" } as const;

/** What the calibrated meter says of a concept at a step; empty where it is not calibrated. */
function verdict(scores: Scores | null, step: number, position: number): string {
  const row = scores?.present?.[step];
  if (!row || position < 0) return "";
  return VERDICTS[row[position] as 0 | 1] ?? "not sure yet";
}

/** The verdicts on all concepts at the shown step, as a sentence; nothing where the meter is not calibrated. */
function Verdicts({ context, scores }: { readonly context: Context; readonly scores: Scores | null }) {
  const step = context.session.viewState.step.value;
  const named = (scores?.concepts ?? []).map((concept, i) => [concept, verdict(scores, step, i)] as const);
  const parts = Object.entries({ present: "yes", "not sure yet": "not sure yet", absent: "no" }).flatMap(
    ([word, answer]) => {
      const concepts = named.flatMap(([concept, said]) => (said === word ? [concept] : []));
      return concepts.length > 0 ? [`${answer}: ${concepts.join(", ")}`] : [];
    },
  );
  if (parts.length === 0) return null;
  return (
    <p
      class="dv-foot"
      data-testid="verdicts"
      title="From the scores of images whose content is known: a “yes” is right nine in ten times or more."
    >
      {`From step ${stepNumber(step)} alone: is it in the image? ${parts.join("; ")}`}
    </p>
  );
}

const FIGURE_SPACE = "\u2007";

interface MeterProps {
  readonly context: Context;
  readonly order: ReturnType<typeof useMeterOrder>;
  readonly concept: string;
  readonly run: Run | null;
  readonly scores: Scores | null;
  readonly position: number;
  readonly scale: "cosine" | "share";
  readonly axis: Axis;
  readonly spark: Axis;
  /** Called with the place of the concept, after it was removed. */
  readonly onRemove: (at: number) => void;
}

function Meter({ context, order, concept, run, scores, position, scale, axis, spark, onRemove }: MeterProps) {
  const { session, player } = context;
  const { viewState, traits } = session;
  const fill = useRef<HTMLElement>(null);
  const band = useRef<HTMLElement>(null);
  const dot = useRef<HTMLElement>(null);
  const row = useRef<HTMLLIElement>(null);
  const length = run?.length ?? 1;
  const series = (scale === "share" ? scores?.share : scores?.cosine)?.map((entry) => entry?.[position] ?? null) ?? [];
  const emergence = position < 0 ? null : (scores?.emergence[position] ?? null);

  // Padded to a fixed width, so that nothing moves when the number changes.
  const text = useComputed(() =>
    score(scoreNow(session, concept, viewState.meterScale.value)).padStart(5, FIGURE_SPACE),
  );

  useReaction(() => {
    const step = viewState.step.value;
    const now = series[step] ?? null;
    const zero = axis.position(0);
    const at = now === null ? zero : axis.position(now);
    const limits = scale === "cosine" ? scores?.null_band[step] : null;
    if (fill.current) fill.current.style.transform = span(zero, at);
    if (band.current) {
      band.current.hidden = !limits;
      if (limits) {
        band.current.style.transform = span(axis.position(limits[0]), axis.position(limits[1]));
      }
    }
    if (row.current) row.current.toggleAttribute("data-weak", now === null || (limits != null && now <= limits[1]));
    if (dot.current) {
      dot.current.hidden = now === null;
      const down = SPARK.y(now === null ? 0 : spark.position(now)) / SPARK.height;
      dot.current.style.transform = `translate(${((step + 0.5) / length) * 100}%, ${down * 100}%)`;
    }
  }, [scores, position, scale, axis, spark, length, concept]);

  const readout = usePointerReadout(context, (step) => {
    const share = scale === "share" && scores?.share;
    const presence = verdict(scores, step, position);
    return `${concept} at step ${stepNumber(step)}: ${score(series[step])}${share ? " of all" : ""}${presence && `, ${presence}`}`;
  });
  const emergenceText = emergence === null ? "does not emerge" : `emerges at step ${stepNumber(emergence)}`;
  return (
    <li class="dv-meter" data-testid={`meter-${concept}`} ref={row} data-weak {...order.rowEvents(concept)}>
      <span
        class="dv-meter-name"
        title={`${concept}: drag it up or down, or press Alt and an arrow key, to reorder`}
        {...order.nameEvents(concept)}
      >
        <bdi>{concept}</bdi>
      </span>
      <span class="dv-track" aria-hidden="true" style={{ "--zero": axis.position(0) }}>
        <i class="dv-band" ref={band} hidden />
        <i class="dv-fill" ref={fill} />
      </span>
      <span class="dv-num dv-score">{text}</span>
      <span
        class="dv-spark"
        role="img"
        aria-label={`${concept} over the steps: ${emergenceText}`}
        title={emergenceText}
        {...readout}
      >
        <svg viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" aria-hidden="true">
          {scale === "cosine" && scores ? (
            <path class="dv-spark-band" d={bandPath(scores.null_band, length, spark)} />
          ) : null}
          {emergence !== null ? (
            <line x1={SPARK.x(emergence, length)} x2={SPARK.x(emergence, length)} y1={0} y2={SPARK.height} />
          ) : null}
          <path d={linePath(series, length, spark)} />
        </svg>
        <i ref={dot} hidden>
          <b class="dv-dot" />
        </i>
      </span>
      <Button
        class="dv-quiet dv-remove"
        aria-label={`Remove ${concept}`}
        title={`Remove “${concept}”`}
        onClick={() => {
          player.pause();
          const concepts = traits.concepts.value;
          session.set({ concepts: concepts.filter((other) => other !== concept) });
          onRemove(concepts.indexOf(concept));
        }}
      >
        <CrossIcon />
      </Button>
    </li>
  );
}

/** Lays a bar as wide as its track between two positions on it. */
function span(a: number, b: number): string {
  return `translateX(${Math.min(a, b) * 100}%) scaleX(${Math.abs(b - a)})`;
}

function scoreNow(session: Context["session"], concept: string, scale: "cosine" | "share"): number | null {
  const scores = session.store.shown.value?.scores.value;
  const position = scores?.concepts.indexOf(concept) ?? -1;
  if (!scores || position < 0) return null;
  const rows = scale === "share" && scores.share ? scores.share : scores.cosine;
  return rows[session.viewState.step.value]?.[position] ?? null;
}

function AddConcept({ context }: { readonly context: Context }) {
  const { session, problem } = context;
  const draft = useSignal("");
  const add = () => {
    const word = draft.value.trim().replace(/\s+/g, " ");
    if (word === "") return;
    const concepts = session.traits.concepts.value;
    if (concepts.includes(word)) {
      problem.value = `“${word}” is already in the list.`;
      return;
    }
    problem.value = "";
    session.set({ concepts: [...concepts, word] });
    draft.value = "";
  };
  return (
    <form
      class="dv-add"
      onSubmit={(event) => {
        event.preventDefault();
        add();
      }}
    >
      <span aria-hidden="true">+</span>
      <input
        type="text"
        autocomplete="off"
        placeholder="add a concept"
        aria-label="Add a concept"
        data-testid="add-concept"
        disabled={!session.connected.value}
        value={draft.value}
        onInput={(event) => {
          draft.value = event.currentTarget.value;
        }}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          draft.value = "";
          event.currentTarget.blur();
        }}
      />
    </form>
  );
}
