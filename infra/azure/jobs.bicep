// Jobs, identities, logs and alerts of one policy.
param policyName string
param policy string
param image string
param registryServer string
param schedule string
param actionGroups array
param location string

// A backup ends by itself after 55 minutes, thawed; the platform's own end comes later.
var stopBy = '55m'
var replicaTimeout = 3600

var name = 'snapfreeze-${policyName}'
var environment = [
  { name: 'AZURE_SUBSCRIPTION_ID', value: subscription().subscriptionId }
  { name: 'SNAPFREEZE_POLICY', value: policy }
]

// Two identities: who freezes deletes nothing, who deletes freezes nothing.
resource backupIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-backup'
  location: location
}

resource upkeepIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-upkeep'
  location: location
}

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: name
  location: location
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 90
  }
}

resource place 'Microsoft.App/managedEnvironments@2024-03-01' = {
  name: name
  location: location
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: logs.properties.customerId
        sharedKey: logs.listKeys().primarySharedKey
      }
    }
  }
}

resource backup 'Microsoft.App/jobs@2024-03-01' = {
  name: '${name}-backup'
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${backupIdentity.id}': {} }
  }
  properties: {
    environmentId: place.id
    configuration: {
      triggerType: 'Schedule'
      scheduleTriggerConfig: {
        cronExpression: schedule
        parallelism: 1
        replicaCompletionCount: 1
      }
      // A second try would freeze a second time.
      replicaRetryLimit: 0
      replicaTimeout: replicaTimeout
      registries: empty(registryServer) ? [] : [{ server: registryServer, identity: backupIdentity.id }]
    }
    template: {
      containers: [
        {
          name: 'backup'
          image: image
          args: ['backup', '--stop-by', stopBy]
          env: concat(environment, [{ name: 'AZURE_CLIENT_ID', value: backupIdentity.properties.clientId }])
          resources: { cpu: json('0.5'), memory: '1Gi' }
        }
      ]
    }
  }
}

var upkeep = [
  { verb: 'prune', cron: '30 * * * *' }
  { verb: 'reap', cron: '40 * * * *' }
  { verb: 'watch', cron: '50 * * * *' }
]

resource upkeepJobs 'Microsoft.App/jobs@2024-03-01' = [for job in upkeep: {
  name: '${name}-${job.verb}'
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${upkeepIdentity.id}': {} }
  }
  properties: {
    environmentId: place.id
    configuration: {
      triggerType: 'Schedule'
      scheduleTriggerConfig: {
        cronExpression: job.cron
        parallelism: 1
        replicaCompletionCount: 1
      }
      replicaRetryLimit: 0
      replicaTimeout: 1800
      registries: empty(registryServer) ? [] : [{ server: registryServer, identity: upkeepIdentity.id }]
    }
    template: {
      containers: [
        {
          name: job.verb
          image: image
          args: [job.verb]
          env: concat(environment, [{ name: 'AZURE_CLIENT_ID', value: upkeepIdentity.properties.clientId }])
          resources: { cpu: json('0.25'), memory: '0.5Gi' }
        }
      ]
    }
  }
}]

// Every line of a job is JSON. The empty table: without it the query is an error until the first line is there.
var lines = 'union isfuzzy=true ContainerAppConsoleLogs_CL, (datatable(TimeGenerated: datetime, Log_s: string)[]) | extend line = parse_json(Log_s) | where tostring(line.Policy) == "${policyName}"'

resource leftFrozen 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: '${name}-left-frozen'
  location: location
  properties: {
    displayName: 'snapfreeze ${policyName}: LEFT FROZEN'
    description: 'Not frozen is not confirmed. On the host, now: sudo snapfreeze thaw'
    severity: 0
    enabled: true
    scopes: [logs.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: '${lines} | where tostring(line.message) == "ended" and toint(line.LeftFrozen) > 0 | project TimeGenerated, backup = tostring(line.backup_id), host = tostring(line.hosts)'
          timeAggregation: 'Count'
          dimensions: [{ name: 'host', operator: 'Include', values: ['*'] }]
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: actionGroups }
  }
}

resource failed 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: '${name}-failed'
  location: location
  properties: {
    displayName: 'snapfreeze ${policyName}: a run failed'
    description: 'A backup is not held, or a run of prune, reap or watch did not end well. The exit codes: docs/azure.md'
    severity: 1
    enabled: true
    scopes: [logs.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: '${lines} | where tostring(line.message) == "end" and tostring(line.good) == "false" | project TimeGenerated, code = tostring(line.exit)'
          timeAggregation: 'Count'
          dimensions: [{ name: 'code', operator: 'Include', values: ['*'] }]
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: actionGroups }
  }
}

// Hangs on no schedule of a backup: an hourly watch asks the snapshots themselves, and fires when it finds a silent host, or when
// for two hours nobody has said that there is none: a disabled schedule, a deleted job, no machines, no logs.
resource silence 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: '${name}-silence'
  location: location
  properties: {
    displayName: 'snapfreeze ${policyName}: silence'
    description: 'A host has no held set that is young enough, or nobody counts them any more'
    severity: 1
    enabled: true
    scopes: [logs.id]
    evaluationFrequency: 'PT30M'
    windowSize: 'PT2H'
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: '${lines} | where tostring(line.message) == "watch" | summarize fresh = countif(toint(line.SilentInstances) == 0 and isnotnull(toint(line.AgeOfLastHeldSet)))'
          timeAggregation: 'Total'
          metricMeasureColumn: 'fresh'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: actionGroups }
  }
}

output backupPrincipal string = backupIdentity.properties.principalId
output upkeepPrincipal string = upkeepIdentity.properties.principalId
