/** The dump view. */

export function DumpView() {
  return <section />;
}
