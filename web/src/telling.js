// What is found, in words.

export const UNCERTAIN = "uncertain";

export const percent = (x) => `${Math.round(100 * x)} %`;

/** The most probable class, and its label: "uncertain" below the least confidence. */
export function judge({ probabilities }, classNames, leastConfidence) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  const sure = probabilities[best] >= leastConfidence;
  return { best, label: sure ? classNames[best] : UNCERTAIN, mostProbable: classNames[best] };
}

function guessOf(face, classNames, leastConfidence, withShares) {
  const { best, label, mostProbable } = judge(face, classNames, leastConfidence);
  if (!withShares) return label;
  const share = percent(face.probabilities[best]);
  return `${label === UNCERTAIN ? `uncertain, perhaps ${mostProbable}` : label}, ${share}`;
}

/**
 * An answer as sentences. A camera's are told without the shares, which change with every
 * frame: who listens would hear of nothing else.
 */
export function tell({ faces, classNames }, leastConfidence, withShares) {
  if (!faces.length) {
    return "No face found. If the image is one cropped face, tick the box above.";
  }
  const each = faces.map((face, i) => {
    const guess = guessOf(face, classNames, leastConfidence, withShares);
    return `Face ${i + 1}: ${guess}.`;
  });
  return `${faces.length === 1 ? "One face" : `${faces.length} faces`}. ${each.join(" ")}`;
}

/** A network's title in the list of networks. */
export function titleNetwork({ data_set: data, class_names: names }) {
  return `${data}: ${names.length} expressions`;
}

/** A network of the page: `about` is its entry in models/networks.json. */
export function describeNetwork(about) {
  const { network, data_set: data, class_names: names, accuracy } = about;
  const right = accuracy
    ? ` Accuracy on the ${accuracy.num_examples.toLocaleString("en")} images of ` +
      `${accuracy.split}: ${(100 * accuracy.share).toFixed(1)} %.`
    : "";
  return (
    `The network: ${network}, trained on ${data}: ${names.join(", ")}.${right} ` +
    "Faces are found by CenterFace."
  );
}
