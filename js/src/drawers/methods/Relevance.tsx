// The relevance of the words over the steps, as curves, under the run's schedule and the other ones.

import {
  Button,
  Choice,
  type Context,
  colourOf,
  fullNameOf,
  linePath,
  type Run,
  SPARK,
  stepNumber,
  useMemo,
  useReaction,
  useRef,
  useSignal,
  value,
} from "../../app/coreExports";
import { Progress } from "../Progress";
import { type Curves, greatest, SCHEDULES, scoreOf, stepAt, WordRelevance } from "./relevanceCurves";
import { NEEDS_NOTEBOOK } from "./saliency";

const SCALES = [
  { value: "scaled", label: "Scaled", title: "From 0, the least relevant word of the step, to 1, the most relevant" },
  { value: "raw", label: "Raw", title: "The sum of a word's relevance over the image" },
] as const;
type Scale = (typeof SCALES)[number]["value"];

export function Relevance({ context, canCompute }: { readonly context: Context; readonly canCompute: boolean }) {
  const { session } = context;
  const relevance = useMemo(() => new WordRelevance(session), [session]);
  const scale = useSignal<Scale>("scaled");
  useReaction(() => relevance.request(), [relevance]);
  const run = session.store.shown.value;
  const curves = relevance.curves.value;
  const { own, job } = relevance;
  const isPossible = session.canCompute("relevance");
  if (!run) return null;
  return (
    <div class="dv-relevance">
      <div class="dv-title">
        <h3>Relevance of the words</h3>
        {curves.length > 0 ? (
          <Choice
            label="Scale of the curves"
            options={SCALES}
            chosen={scale.value}
            choose={(next) => {
              scale.value = next;
            }}
          />
        ) : null}
      </div>
      <p class="dv-wrap">
        How much each step attends to each word, propagated through all attention layers. A high value means that the
        word is attended to, not that the image follows it.
      </p>
      {curves.length > 0 ? (
        <>
          <div class="dv-schemes" data-many={curves.length > 1 || undefined}>
            {curves.map((entry) => (
              <figure key={entry.schedule}>
                <figcaption>
                  {entry.schedule}
                  {entry === own && curves.length > 1 ? ", this run" : ""}
                  <span>{`0 to ${value(greatest(entry[scale.value]))}`}</span>
                </figcaption>
                <Chart context={context} run={run} curves={entry} scale={scale.value} linked={entry === own} />
              </figure>
            ))}
          </div>
          <Words context={context} run={run} all={curves} />
        </>
      ) : canCompute && isPossible ? null : (
        <p class="dv-foot">{canCompute ? NEEDS_NOTEBOOK : "Relevance was not computed for this run."}</p>
      )}
      {!canCompute || !isPossible || job.isRunning || (own && curves.length >= SCHEDULES.length) ? null : (
        <Button class="dv-do" onClick={() => relevance.compute()}>
          {own ? "Compare uniform, early and late" : "Compute relevance"}
        </Button>
      )}
      <Progress
        job={job}
        what={job.task.value?.schedule ? `Relevance under ${job.task.value.schedule}` : "Relevance"}
      />
    </div>
  );
}

/** The colour of a word's curve: as on the stage if words are chosen, else by its position in the prompt. */
function colourIn(run: Run, pinned: readonly number[], words: readonly number[], word: number): string {
  return colourOf(run.info.words, pinned.length === 0 ? words : pinned, word) ?? "var(--weak)";
}

interface ChartProps {
  readonly context: Context;
  readonly run: Run;
  readonly curves: Curves;
  readonly scale: Scale;
  /** Whether its steps are those of the slider. */
  readonly linked: boolean;
}

function Chart({ context, run, curves, scale, linked }: ChartProps) {
  const { session, player } = context;
  const { viewState } = session;
  const frame = useRef<HTMLDivElement>(null);
  const rows = curves[scale];
  const steps = rows.length;
  const top = greatest(rows);
  const pinned = viewState.pinned.value;
  const hovered = viewState.hovered.value;
  const step = viewState.step.value;
  const paths = useMemo(
    () =>
      curves.words.map((_, column) =>
        linePath(
          rows.map((row) => row[column] ?? null),
          steps,
          { range: [0, top], position: (value) => value / top },
        ),
      ),
    [rows],
  );
  const move = (event: PointerEvent) => {
    const box = frame.current?.getBoundingClientRect();
    if (box) session.goTo(stepAt((event.clientX - box.left) / box.width, steps));
  };
  const row = (rows[step] ?? []).map((value) => value ?? 0);
  const first = curves.words[row.indexOf(Math.max(...row))] ?? -1;
  const readout = `Step ${stepNumber(step)}: ${fullNameOf(run.info.words[first])} is attended to most`;
  const slider = linked && {
    role: "slider" as const,
    tabIndex: 0 as const,
    "aria-label": "Step, on the curves of relevance",
    "aria-valuemin": 1,
    "aria-valuemax": steps,
    "aria-valuenow": stepNumber(step),
    "aria-valuetext": readout,
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
      player.pause();
      move(event);
    },
    onPointerMove: (event: PointerEvent) => {
      if ((event.currentTarget as HTMLElement).hasPointerCapture(event.pointerId)) move(event);
    },
  };
  return (
    <div class="dv-spark dv-curves" ref={frame} data-linked={linked || undefined} {...slider}>
      <svg viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" aria-hidden="true">
        {paths.map((d, column) => {
          const word = curves.words[column] ?? -1;
          const strong = hovered === word || (hovered === null && (pinned.length === 0 || pinned.includes(word)));
          return (
            <path
              key={word}
              d={d}
              data-strong={strong || undefined}
              style={{ stroke: colourIn(run, pinned, curves.words, word) }}
            />
          );
        })}
        {linked ? <line x1={SPARK.x(step, steps)} x2={SPARK.x(step, steps)} y1={0} y2={SPARK.height} /> : null}
      </svg>
    </div>
  );
}

interface WordsProps {
  readonly context: Context;
  readonly run: Run;
  readonly all: readonly Curves[];
}

/** The legend: a button for each word, with its score under each schedule. */
function Words({ context, run, all }: WordsProps) {
  const { viewState } = context.session;
  const pinned = viewState.pinned.value;
  const words = all[0]?.words ?? [];
  return (
    <table class="dv-scores">
      <thead>
        <tr>
          <th scope="col">Word</th>
          {all.map(({ schedule }) => (
            <th key={schedule} scope="col" title="The sum of the word's scaled curve: at most the number of steps">
              {all.length > 1 ? schedule : "sum over the steps"}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {words.map((word, column) => (
          <tr key={word}>
            <th scope="row">
              <Button
                aria-pressed={pinned.includes(word)}
                onClick={() => viewState.pin(word, true)}
                onPointerEnter={() => {
                  viewState.hovered.value = word;
                }}
                onPointerLeave={() => {
                  viewState.hovered.value = null;
                }}
              >
                <i style={{ background: colourIn(run, pinned, words, word) }} aria-hidden="true" />
                {fullNameOf(run.info.words[word])}
              </Button>
            </th>
            {all.map((curves) => {
              const score = scoreOf(curves, column);
              return (
                <td key={curves.schedule} class="dv-num">
                  <i aria-hidden="true">
                    <i style={{ width: `${(100 * score) / curves.scaled.length}%` }} />
                  </i>
                  {score.toFixed(1)}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
