-- ARGV: node, user.
return append('k', 'd', 'n', ARGV[1], 's', ARGV[2])
