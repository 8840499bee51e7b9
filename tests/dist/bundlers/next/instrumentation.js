// Next.js calls it once, when its server starts.
export async function register() {
  if (process.env.NEXT_RUNTIME === 'nodejs') await import('./server.mjs');
}
