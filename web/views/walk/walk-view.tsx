/** The walk view. */

export function WalkView() {
  return <section />;
}
