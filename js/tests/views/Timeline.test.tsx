// @vitest-environment happy-dom
// The readout of the timeline: timestep and noise level of the step that is shown.

import { expect, it } from "vitest";
import { runContent, stepBuffers, stepContent } from "../host";
import { cell, host, open, query, settled } from "../viewer";

async function show(info: object, step: object): Promise<void> {
  await open({}, 0);
  host.deliver(runContent("r1", 0, info));
  host.deliver(stepContent(0, 1, "r1", step), stepBuffers());
  await settled();
}

it("shows the noise level of a step", async () => {
  await show({}, { sigma: 4 });
  expect(query(".dv-step").textContent).toBe("step 1 / 4 · t = 999 · σ = 4.00");
  expect(cell.querySelector(".dv-remark")).toBeNull();
});

it("shows pure noise as an infinite level", async () => {
  await show({}, { sigma: null });
  expect(query(".dv-step").textContent).toBe("step 1 / 4 · t = 999 · σ = ∞");
});

it("says in a sentence that the noise levels of a scheduler are not known", async () => {
  await show({ noise_levels: "unknown" }, { sigma: null });
  expect(query(".dv-step").textContent).toBe("step 1 / 4 · t = 999 · σ unknown");
  expect(query(".dv-remark").textContent).toContain("noise levels of this scheduler are not known");
});
