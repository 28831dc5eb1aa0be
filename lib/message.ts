/**
 * Conversations: what `chat()` takes and `messages` gives.
 */
import type { NativeMessage } from './native-session.js';
import { wellFormed } from './text.js';

/** A piece of a message's content. */
export interface TextPart {
  readonly type: 'text';
  readonly text: string;
}

/** A message's content: a string, or parts that are joined without anything between them. */
export type Content = string | readonly TextPart[];

/** One message of a conversation. */
export type Message =
  | { readonly role: 'system' | 'user'; readonly content: Content }
  | {
      readonly role: 'assistant';
      readonly content: Content;
      /** What the model thought before it answered; the template decides whether the model sees it again. */
      readonly reasoning?: string | undefined;
    };

/** The content as one string. */
export function contentText(content: Content): string {
  return typeof content === 'string' ? content : content.map((part) => part.text).join('');
}

/** Messages as the addon takes them. */
export function toNativeMessages(messages: readonly Message[]): NativeMessage[] {
  return messages.map((message) => ({
    role: message.role,
    content: wellFormed(contentText(message.content)),
    reasoning: message.role === 'assistant' ? wellFormed(message.reasoning ?? '') : '',
  }));
}
