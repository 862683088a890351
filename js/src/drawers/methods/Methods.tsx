// The explaining methods: their maps of the step that is looked at, computed on request, and the relevance of the words.

import { ATTENTION, Button, type Context, MapCanvas, useArrows, useMemo, useReaction } from "../../app/coreExports";
import { Progress, span } from "../Progress";
import { Relevance } from "./Relevance";
import { labelOf, METHODS, type Method, type Saliency, type StepMap, saliencyOf } from "./saliency";

export function Methods({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const maps = useMemo(() => saliencyOf(session), [session]);
  useReaction(() => maps.want(), [maps]);
  useReaction(() => maps.lay(), [maps]);
  const run = session.store.shown.value;
  const others = maps.maps.value.filter(({ step }) => step !== maps.now?.step).sort((a, b) => a.step - b.step);
  const arrows = useArrows(others.length);
  if (!run || !maps.now) return null;
  const { step } = maps.now;
  const refused = maps.estimating.standing.value?.error ?? "";
  const hint = !session.connected.value
    ? "New maps are computed in the kernel, and the kernel is gone."
    : !session.keeps
      ? "New maps are computed in the notebook."
      : refused;
  return (
    <section class="dv-methods" aria-label="Methods">
      <div class="dv-title">
        <h3>{`What step ${step + 1} depends on`}</h3>
      </div>
      {hint ? <p class="dv-foot">{hint}</p> : null}
      <div class="dv-method-grid">
        {METHODS.map((method) => (
          <One key={method.name} maps={maps} method={method} step={step} able={!hint} />
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
            onFocusIn={arrows.onFocusIn}
            onKeyDown={arrows.onKeyDown}
          >
            {others.map((one, position) => (
              <Tile
                key={`${one.method} ${one.step}`}
                one={one}
                tabIndex={arrows.tabIndex(position)}
                choose={() => {
                  player.pause();
                  session.goTo(one.step);
                  maps.show(one.method);
                }}
              />
            ))}
          </div>
        </>
      ) : null}
      <Relevance context={context} able={!hint} />
    </section>
  );
}

interface OneProps {
  readonly maps: Saliency;
  readonly method: Method;
  readonly step: number;
  readonly able: boolean;
}

function One({ maps, method: { name, label, shows, found }, step, able }: OneProps) {
  const one = maps.at(name, step);
  const { working } = maps;
  const seconds = maps.seconds.value?.[name];
  const task = working.task.value;
  const here = task?.step === step;
  const mine = task?.method === name && (here || working.going);
  const laid = maps.overlay === name;
  return (
    <div class="dv-method" data-testid={name}>
      <div class="dv-method-map">
        {one ? (
          <Button
            class="dv-tile"
            style={{ "--mark": "var(--data)" }}
            aria-pressed={laid}
            aria-label={`${label} on the stage`}
            title={laid ? "Take it off the stage" : "Lay it on the stage"}
            onClick={() => maps.show(laid ? ATTENTION : name)}
          >
            <Small maps={one.maps} />
          </Button>
        ) : (
          <span class="dv-map" />
        )}
      </div>
      <div>
        <h3>{label}</h3>
        {one || (mine && working.going) || !able ? null : (
          <Button class="dv-do" disabled={working.going} onClick={() => maps.begin(name)}>
            Compute<span class="dv-sr"> {label}</span>
            {seconds === undefined ? "" : `, ${seconds < 1 ? "under 1 s" : `about ${span(seconds)}`}`}
          </Button>
        )}
        {mine && !(one && here) ? (
          <Progress working={working} what={here ? label : `${label} of step ${Number(task?.step) + 1}`} />
        ) : null}
      </div>
      <p>{shows}</p>
      <p>
        <b>Caution:</b> {found}
      </p>
    </div>
  );
}

interface TileProps {
  readonly one: StepMap;
  readonly tabIndex: 0 | -1;
  readonly choose: () => void;
}

function Tile({ one, tabIndex, choose }: TileProps) {
  const label = labelOf(one.method);
  return (
    <Button
      class="dv-tile"
      data-stop
      tabIndex={tabIndex}
      title={`${label}, step ${one.step + 1}: go there`}
      onClick={choose}
    >
      <Small maps={one.maps} />
      <span class="dv-tile-name">{label}</span>
      <span class="dv-num">{`step ${one.step + 1}`}</span>
    </Button>
  );
}

function Small({ maps }: { readonly maps: StepMap["maps"] }) {
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
