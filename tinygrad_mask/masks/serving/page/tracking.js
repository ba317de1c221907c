// Follow faces over frames: tracking.py, line by line, so that both answer alike (a test compares).

export const LABELS = ["proper", "improper", "none"];

export class Tracker {
  constructor({ overlap = 0.3, patience = 15, smoothing = 0.8, margin = 0.1, confirmed = 3 } = {}) {
    Object.assign(this, { overlap, patience, smoothing, margin, confirmed });
    this.tracks = [];
    this.persons = 0;
    this.gone = [];
  }

  /** Take the faces of the next frame, {box, probabilities}; return them as persons, in order. */
  update(faces) {
    const trackOf = this.match(faces.map((face) => face.box));
    const seen = new Set(trackOf.values());
    for (const track of this.tracks) if (!seen.has(track)) track.missed += 1;
    const persons = faces.map((face, k) => {
      const probabilities = LABELS.map((label) => face.probabilities[label]);
      let track = trackOf.get(k);
      if (track === undefined) {
        this.persons += 1;
        track = {
          number: this.persons, box: face.box, velocity: [0, 0, 0, 0], probabilities,
          label: argmax(probabilities), frames: 1, missed: 0, size: shorterSide(face.box),
        };
        this.tracks.push(track);
      } else {
        this.follow(track, face.box, probabilities);
      }
      return { ...face, person: track.number, label: LABELS[track.label],
        probabilities: named(track.probabilities),
        probability: track.probabilities[track.label] };
    });
    const lost = this.tracks.filter((track) => track.missed > this.patience);
    this.gone.push(...lost.filter((track) => track.frames >= this.confirmed).map(asPerson));
    this.tracks = this.tracks.filter((track) => track.missed <= this.patience);
    return persons;
  }

  /** All persons who were seen so far, {label, probabilities, size}. */
  seen() {
    const present = this.tracks.filter((track) => track.frames >= this.confirmed);
    return [...this.gone, ...present.map(asPerson)];
  }

  follow(track, box, probabilities) {
    const steps = track.missed + 1;
    track.velocity = track.velocity.map((v, k) => (v + (box[k] - track.box[k]) / steps) / 2);
    const keep = this.smoothing;
    track.probabilities = track.probabilities.map((p, k) => keep * p + (1 - keep) * probabilities[k]);
    const best = argmax(track.probabilities);
    if (track.probabilities[best] > track.probabilities[track.label] + this.margin) track.label = best;
    track.box = box;
    track.missed = 0;
    track.size = Math.max(track.size, shorterSide(box));
    track.frames += 1;
  }

  match(boxes) {
    const pairs = [];
    boxes.forEach((box, b) => this.tracks.forEach((track, t) => {
      const expected = track.box.map((edge, k) => edge + track.velocity[k] * (track.missed + 1));
      const overlap = iou(box, expected);
      if (overlap >= this.overlap) pairs.push({ b, t, overlap });
    }));
    pairs.sort((one, other) => other.overlap - one.overlap || one.b - other.b || one.t - other.t);
    const trackOf = new Map();
    const taken = new Set();
    for (const { b, t } of pairs) {
      if (trackOf.has(b) || taken.has(t)) continue;
      trackOf.set(b, this.tracks[t]);
      taken.add(t);
    }
    return trackOf;
  }
}

function argmax(values) {
  return values.indexOf(Math.max(...values));
}

function named(values) {
  return Object.fromEntries(LABELS.map((label, k) => [label, values[k]]));
}

function asPerson(track) {
  return { label: LABELS[track.label], probabilities: named(track.probabilities), size: track.size };
}

function shorterSide([left, top, right, bottom]) {
  return Math.min(right - left, bottom - top);
}

/** The intersection over union of two boxes. */
export function iou(one, other) {
  const width = Math.max(Math.min(one[2], other[2]) - Math.max(one[0], other[0]), 0);
  const height = Math.max(Math.min(one[3], other[3]) - Math.max(one[1], other[1]), 0);
  const area = (box) => Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);
  const union = area(one) + area(other) - width * height;
  return union > 0 ? (width * height) / union : 0;
}
