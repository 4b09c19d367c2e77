// Both stages' opinions joined to the probability of a nodule: p2ch_luna/inference/joint.py.

// `calibration` is that of the classifier's card: null where it has none, then the mean of both logits counts.
export function jointProbability(segmentation, classifier, { calibration, LOGIT_LIMIT: limit }) {
  const logit = (p) => Math.min(Math.max(Math.log(p) - Math.log1p(-p), -limit), limit);
  const joint = calibration
    ? calibration.segmentation * logit(segmentation) +
      calibration.classifier * logit(classifier) +
      calibration.intercept
    : (logit(segmentation) + logit(classifier)) / 2;
  return 1 / (1 + Math.exp(-joint));
}
