declare global {
  /** Set by whoever evaluates a bundle of suites: told the first failure, or undefined where all pass. */
  var suitesDone: (failure: Promise<string | undefined>) => void;
}

export {};
