/**
 * Strings on their way to the addon.
 */

/**
 * The text as UTF-8 can carry it: a lone surrogate (half of a UTF-16 pair, as cutting a string in the middle of an emoji
 * leaves it) becomes U+FFFD, which is what every UTF-8 encoder makes of it.
 */
export function wellFormed(text: string): string {
  // Node has it since 20.0; TypeScript's type of it comes with a later `lib` than ours.
  return (text as string & { toWellFormed(): string }).toWellFormed();
}
