// The explain methods: their heat maps of the current step, computed on request, and the relevance of the words.

import {
  ATTENTION,
  Button,
  type Context,
  MapCanvas,
  stepNumber,
  useMemo,
  useReaction,
  useRovingFocus,
} from "../../app/coreExports";
import { formatSpan, Progress } from "../Progress";
import { Relevance } from "./Relevance";
import { labelOf, type Method, NEEDS_NOTEBOOK, type Saliency, type StepMap, saliencyOf } from "./saliency";

export function Methods({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const saliency = useMemo(() => saliencyOf(session), [session]);
  useReaction(() => saliency.request(), [saliency]);
  useReaction(() => saliency.computeOverlay(), [saliency]);
  const run = session.store.shown.value;
  const others = saliency.maps.value
    .filter(({ step }) => step !== saliency.current?.step)
    .sort((a, b) => a.step - b.step);
  const focus = useRovingFocus(others.length);
  if (!run || !saliency.current) return null;
  const { step } = saliency.current;
  const hint = !session.connected.value
    ? "New maps are computed in the kernel, which is no longer running."
    : session.isOffline
      ? "New maps are computed in the notebook."
      : (saliency.estimate.status.value?.error ?? "");
  return (
    <section class="dv-methods" aria-label="Methods">
      {hint ? <p class="dv-foot">{hint}</p> : null}
      <Relevance context={context} canCompute={!hint} />
      <div class="dv-title">
        <h3>{`What step ${stepNumber(step)} depends on`}</h3>
      </div>
      {saliency.methods.value.some(({ finding }) => finding) ? (
        <p class="dv-wrap">
          Where a map carries a caution, it locates objects no better than the distance to the centre of the image does.
        </p>
      ) : null}
      <div class="dv-method-grid">
        {saliency.methods.value.map((method) => (
          <MethodCard key={method.name} saliency={saliency} method={method} step={step} canCompute={!hint} />
        ))}
      </div>
      {others.length > 0 ? (
        <>
          <p class="dv-foot">At other steps</p>
          <div
            class="dv-tiles"
            role="toolbar"
            aria-label="Maps of other steps"
            data-arrows
            onFocusIn={focus.onFocusIn}
            onKeyDown={focus.onKeyDown}
          >
            {others.map((map, position) => (
              <StepTile
                key={`${map.method} ${map.step}`}
                map={map}
                label={labelOf(map.method, saliency.methods.value)}
                tabIndex={focus.tabIndex(position)}
                choose={() => {
                  player.pause();
                  session.goTo(map.step);
                  saliency.setOverlay(map.method);
                }}
              />
            ))}
          </div>
        </>
      ) : null}
    </section>
  );
}

interface MethodCardProps {
  readonly saliency: Saliency;
  readonly method: Method;
  readonly step: number;
  readonly canCompute: boolean;
}

function MethodCard({ saliency, method: { name, label, caption, finding }, step, canCompute }: MethodCardProps) {
  const map = saliency.mapAt(name, step);
  const { job } = saliency;
  const seconds = saliency.seconds.value?.[name];
  const isPossible = saliency.canCompute(name);
  const task = job.task.value;
  const isThisStep = task?.step === step;
  const isThisMethod = task?.method === name && (isThisStep || job.isRunning);
  const isOnStage = saliency.overlay === name;
  return (
    <div class="dv-method" data-testid={name}>
      <div class="dv-method-map">
        {map ? (
          <Button
            class="dv-tile"
            style={{ "--mark": "var(--data)" }}
            aria-pressed={isOnStage}
            aria-label={`${label} on the stage`}
            title={isOnStage ? "Remove it from the stage" : "Show it on the stage"}
            onClick={() => saliency.setOverlay(isOnStage ? ATTENTION : name)}
          >
            <SmallMap maps={map.maps} />
          </Button>
        ) : (
          <span class="dv-map" />
        )}
      </div>
      <div>
        <h3>{label}</h3>
        {canCompute && !map && isPossible === false ? <p class="dv-foot">{NEEDS_NOTEBOOK}</p> : null}
        {map || (isThisMethod && job.isRunning) || !canCompute || !isPossible ? null : (
          <Button class="dv-do" disabled={job.isRunning} onClick={() => saliency.compute(name)}>
            Compute<span class="dv-sr"> {label}</span>
            {seconds === undefined ? "" : `, ${seconds < 1 ? "under 1 s" : `about ${formatSpan(seconds)}`}`}
          </Button>
        )}
        {isThisMethod && !(map && isThisStep) ? (
          <Progress job={job} what={isThisStep ? label : `${label} of step ${stepNumber(Number(task?.step))}`} />
        ) : null}
      </div>
      <p>{caption}</p>
      {finding ? (
        <p>
          <b>Caution:</b> {finding}
        </p>
      ) : null}
    </div>
  );
}

interface StepTileProps {
  readonly map: StepMap;
  readonly label: string;
  readonly tabIndex: 0 | -1;
  readonly choose: () => void;
}

function StepTile({ map, label, tabIndex, choose }: StepTileProps) {
  return (
    <Button
      class="dv-tile"
      data-stop
      tabIndex={tabIndex}
      title={`${label}, step ${stepNumber(map.step)}: go there`}
      onClick={choose}
    >
      <SmallMap maps={map.maps} />
      <span class="dv-tile-name">{label}</span>
      <span class="dv-num">{`step ${stepNumber(map.step)}`}</span>
    </Button>
  );
}

function SmallMap({ maps }: { readonly maps: StepMap["maps"] }) {
  const range = maps.scales[0];
  return (
    <span class="dv-map" aria-hidden="true">
      <MapCanvas
        grid={[maps.height, maps.width]}
        draw={() => (range ? { maps, index: 0, range } : null)}
        inputs={[maps]}
      />
    </span>
  );
}
