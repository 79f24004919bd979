// Nothing but a start that takes STARTUP_SECONDS (default 1.5): all else is Vite as it comes.
const startup = Number(process.env.STARTUP_SECONDS ?? 1.5) * 1000;

export default async () => {
  await new Promise((resolve) => setTimeout(resolve, startup));
  return {};
};
