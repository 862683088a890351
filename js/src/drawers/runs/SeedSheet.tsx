// A contact sheet: the images of one prompt with several seeds, all at the step of the slider. Each opens as a run.

import {
  Button,
  type Context,
  fitImage,
  Overlay,
  StageImage,
  useCanvas,
  useMemo,
  useReaction,
} from "../../app/coreExports";
import type { Entry } from "../runHistory";
import { SeedRuns } from "./seedRuns";

interface Props {
  readonly context: Context;
  readonly entries: readonly Entry[];
}

export function SeedSheet({ context, entries }: Props) {
  const { session } = context;
  const ids = session.traits._sheet.value;
  const sheet = useMemo(() => new SeedRuns(session), [session]);
  useReaction(() => sheet.update(entries), [sheet, entries]);
  const first = ids.map((id) => sheet.runs.value.get(id)).find((run) => run !== undefined);
  if (!first) return null;
  return (
    <div class="dv-seeds" role="group" aria-label={`${ids.length} seeds of “${first.info.prompt}”`}>
      {ids.map((id, i) => (
        <Seed
          key={id}
          context={context}
          sheet={sheet}
          id={id}
          seed={(first.info.seed ?? 0) + i - ids.indexOf(first.info.run)}
        />
      ))}
    </div>
  );
}

interface SeedProps {
  readonly context: Context;
  readonly sheet: SeedRuns;
  readonly id: string;
  readonly seed: number;
}

function Seed({ context, sheet, id, seed }: SeedProps) {
  const { session } = context;
  const { store, viewState } = session;
  const image = useMemo(() => new StageImage(context.images), [context]);
  const overlay = useMemo(() => new Overlay(), []);
  const canvas = useCanvas((_, c, size) => {
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    const run = sheet.runs.value.get(id);
    const step = run?.nearest(viewState.step.value);
    if (!run || !step) return;
    const box = fitImage(run.info.image, size);
    // The words are those of the shown run: they have the same indices in every run of the same prompt.
    const isSame = store.shown.value?.info.prompt === run.info.prompt && viewState.lens.value === null;
    const words = isSame ? viewState.words.value : [];
    const view = viewState.stage.value === "change" ? "prediction" : viewState.stage.value;
    image.draw(c, step, view, box, words.length > 0);
    if (words.length > 0) overlay.draw(c, run, step, words, viewState, box);
  });
  const run = sheet.runs.value.get(id);
  const isShown = store.shown.value?.info.run === id;
  const canOpen = run !== undefined && !session.busy.value && session.connected.value;
  return (
    <Button
      class="dv-seed"
      aria-pressed={isShown}
      disabled={!canOpen || isShown}
      title={isShown ? `Seed ${seed}, on the stage` : run ? `Show the run with seed ${seed}` : `Seed ${seed} waits`}
      onClick={() => session.show(id)}
    >
      <span class="dv-map">
        <canvas ref={canvas} />
      </span>
      <span class="dv-num">{`seed ${seed}`}</span>
    </Button>
  );
}
