/** The source cannot be had or does not fit; the message is for the user. */
export class FetchError extends Error {
  name = 'FetchError';
}

/** A patch is malformed or does not fit the source; one line per problem. */
export class PatchError extends Error {
  name = 'PatchError';
}
