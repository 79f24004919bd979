export const greeting = 'first';
