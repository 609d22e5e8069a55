/** The projects of vitest.config.ts without what runs built code, a browser or a compiler: no mistake in src is in those. */
import { defineConfig } from "vitest/config";
import whole from "../../vitest.config.js";

const { projects = [], ...test } = whole.test!;
const LEFT_OUT = ["test/{browser,cli,package,tools}/**", "test/mmu/debug-build.test.ts"];

export default defineConfig({
  test: {
    ...test,
    reporters: [],
    projects: projects.map((project) => {
      if (typeof project !== "object" || !("test" in project)) return project;
      return { ...project, test: { ...project.test, exclude: [...(project.test?.exclude ?? []), ...LEFT_OUT] } };
    }),
  },
});
