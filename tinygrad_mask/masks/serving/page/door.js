// From the persons in view to the one thing that the page says.

export const ANSWERS = ["proper", "improper", "none", "unsure", "too small"];

// What is said first if several persons are in view. Somebody far away does not hold up the others.
const URGENCY = ["none", "improper", "unsure", "proper", "too small"];

const CONFIDENCE = 0.5;
export const MIN_FACE = 8; // pixels of the shorter side, as in detector.py

/**
 * The answer about a person: `threshold` is the probability of a mask that is not worn properly from
 * which on they are asked; null is the most probable label. Below the threshold it is no "proper"
 * unless that is the most probable.
 */
export function answer(face, threshold) {
  if (shorterSide(face) < MIN_FACE) return "too small";
  const p = face.probabilities;
  if (threshold === null) return p[face.label] >= CONFIDENCE ? face.label : "unsure";
  if (1 - p.proper >= threshold) return p.none >= p.improper ? "none" : "improper";
  return p.proper >= CONFIDENCE ? "proper" : "unsure";
}

function shorterSide(face) {
  if (face.size !== undefined) return face.size;
  const [left, top, right, bottom] = face.box;
  return Math.min(right - left, bottom - top);
}

/** The state of a door that this many frames must agree on before it changes. */
export class Door {
  constructor(agreeing = 3) {
    this.agreeing = agreeing;
    this.reset();
  }

  reset() {
    this.state = "starting";
    this.candidate = null;
    this.count = 0;
  }

  /** Take the answers about a frame's persons, and return the state to show. */
  update(answers) {
    const state = URGENCY.find((one) => answers.includes(one)) ?? "nobody";
    this.count = state === this.candidate ? this.count + 1 : 1;
    this.candidate = state;
    if (this.count >= this.agreeing) this.state = state;
    return this.state;
  }
}

/** How many persons got each answer. */
export function count(persons, threshold) {
  const counts = Object.fromEntries(ANSWERS.map((name) => [name, 0]));
  for (const person of persons) counts[answer(person, threshold)] += 1;
  return counts;
}
