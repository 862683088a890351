// How steps are counted: people read step 1 to T; indices, here and in Python, run from 0 to T - 1.

/** The number that people read, of the step at `index`. */
export const stepNumber = (index: number): number => index + 1;

/** The index of the step with a number. */
export const stepIndex = (number: number): number => number - 1;
