/**
 * Lints what formatters leave open (style/problems.ts): every file of src, assembly, test, bench and web begins with a comment that says
 * what it is for, and no TypeScript has the keyword `private`.
 */
import { sourcesOf } from "./directions/sources.js";
import { styleProblems } from "./style/problems.js";

const { files, read } = sourcesOf();
const problems = files.flatMap((path) => styleProblems(path, read(path)));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
console.log(`${files.length} files, ${problems.length} problems of style`);
