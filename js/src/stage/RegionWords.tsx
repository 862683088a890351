// The words ranked by attention inside the selected region: at this step as bars, over the steps as lines.

import { useMemo } from "preact/hooks";
import type { Context } from "../core/context";
import { value } from "../core/format";
import { meanIn, type Region } from "../core/mapSampling";
import type { Run } from "../core/store";
import { colourOf, distinctName } from "../core/wordLabels";
import { wordEvents } from "../gestures/chooseWord";
import { Button } from "../ui/Button";
import { linePath, SPARK } from "../ui/spark";

const MAX_WORDS = 8;

interface Props {
  readonly context: Context;
  readonly run: Run;
  readonly region: Region;
}

export function RegionWords({ context, run, region }: Props) {
  const { viewState } = context.session;
  const at = viewState.step.value;
  const step = run.nearest(at);
  const revision = run.revision.value;
  /** The values over the steps of the words that have been in the list. */
  const series = useMemo(() => new Map<number, (number | null)[]>(), [run, region, revision]);
  const ranked = run.info.words
    .flatMap((word, index) => {
      const now = step && (word.kind === "word" || word.kind === "concept") ? meanIn(step.maps, index, region) : null;
      return now === null ? [] : [{ word, index, now }];
    })
    .sort((a, b) => b.now - a.now)
    .slice(0, MAX_WORDS)
    .map((entry) => {
      const { index } = entry;
      const values =
        series.get(index) ?? Array.from(run.steps, (message) => (message ? meanIn(message.maps, index, region) : null));
      series.set(index, values);
      return { ...entry, values };
    });
  const most = Math.max(1e-9, ...ranked.flatMap(({ values }) => values.map((reading) => reading ?? 0)));
  const position = (reading: number) => reading / most;
  return (
    <ul>
      {ranked.map(({ index, now, values }) => {
        const colour = colourOf(run.info.words, viewState.pinned.value, index);
        return (
          <li
            class="dv-meter"
            key={index}
            style={viewState.pinned.value.length > 1 && colour ? { "--data": colour } : undefined}
          >
            <Button
              class="dv-meter-name"
              data-testid={`region-word-${index}`}
              aria-pressed={colour !== undefined}
              title={distinctName(run.info.words, index)}
              {...wordEvents(viewState, index)}
            >
              <bdi>{distinctName(run.info.words, index)}</bdi>
            </Button>
            <span class="dv-track" aria-hidden="true">
              <i class="dv-fill" style={{ transform: `scaleX(${position(now)})` }} />
            </span>
            <span class="dv-num dv-score">{value(now)}</span>
            <span class="dv-spark">
              <svg viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" aria-hidden="true">
                <path d={linePath(values, run.length, { range: [0, most], position })} />
              </svg>
              <i
                style={{
                  transform: `translate(${((at + 0.5) / run.length) * 100}%,${(SPARK.y(position(now)) / SPARK.height) * 100}%)`,
                }}
              >
                <b class="dv-dot" />
              </i>
            </span>
          </li>
        );
      })}
    </ul>
  );
}
