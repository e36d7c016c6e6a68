// What graphql-js does in production in place of its check for a second copy of itself, which the bundle cannot have.
export const instanceOf = (value, constructor) => value instanceof constructor;
