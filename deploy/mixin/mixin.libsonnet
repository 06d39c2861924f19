// The rules and dashboards of this project as a monitoring mixin. It reads the files themselves, so it
// takes the whole project beside it.
local groups(text) = std.parseYaml(text).groups;

{
  _config+:: {
    // Where your people read the runbook, docs/runbook.md; null: where the rules say.
    runbookUrl: null,
  },

  local config = self._config,
  local ledTo(rule) =
    if config.runbookUrl == null || !std.objectHas(rule, 'alert') then rule
    else rule {
      annotations+: {
        runbook_url: config.runbookUrl + '#' + std.split(super.runbook_url, '#')[1],
      },
    },

  prometheusAlerts+:: {
    groups+: [
      group { rules: [ledTo(rule) for rule in group.rules] }
      for group in groups(importstr '../prometheus/alerts.yml')
    ],
  },
  prometheusRules+:: {
    groups+: groups(importstr '../prometheus/recording.yml'),
  },
  grafanaDashboards+:: {
    'pte-trace-fleet.json': import '../../dashboards/pte-trace-fleet.json',
    'pte-trace-machine.json': import '../../dashboards/pte-trace-machine.json',
  },
}
