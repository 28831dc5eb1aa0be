/**
 * Options of a model's methods.
 */
export interface TokenizeOptions {
  /** Read control tokens such as `<|im_end|>` in the text as tokens. Default false: they are text. */
  readonly special?: boolean | undefined;
  /** Add the begin and end tokens that the vocabulary asks for. Default false. */
  readonly bos?: boolean | undefined;
}
export interface DetokenizeOptions {
  /** Render control tokens as text. Default false: they give nothing. */
  readonly special?: boolean | undefined;
}
export interface RenderOptions {
  /** The template's thinking switch. Default `'on'`. */
  readonly reasoning?: 'on' | 'off' | undefined;
}
export interface EmbedOptions {
  /** Scale every vector to length 1. Default true. */
  readonly normalize?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}
export interface LogitsOptions {
  readonly signal?: AbortSignal | undefined;
}
