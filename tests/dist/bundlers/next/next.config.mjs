export default {
  serverExternalPackages: ['wsguard'],
  output: 'standalone',
  // The addon is required by a name that is known at run time only: the copy of a standalone build is told to have it.
  outputFileTracingIncludes: { '/*': ['./node_modules/wsguard/**', './node_modules/@wsguard/**'] },
};
